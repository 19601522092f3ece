"""Ends Twilio Studio Executions when a conversation is over.

The modules in the order of an event's way; each imports only what is below it:

app, sweep                      the Lambda handlers
triggers/                       AWS's event formats, HTTP, signatures, sources
sweeper                         the sweep
invocation                      one invocation: carries out commands; logs, counts, publishes outcomes
service, outcome, command       the core: ending what a command names, what came of it, the command
twilio/                         Twilio's Studio API: credentials, HTTP, rate limits
secret, queues, events, aws     AWS's APIs
config, schema, observability, deadline, errors
                                the foundation
"""
