"""Ends Twilio Studio Executions when a conversation is over.

The modules, in the order in which an event travels; each imports only from its own line and those below:

app, sweep                      the Lambda handlers
triggers/                       AWS's event formats and the responses they expect
webhooks/                       other systems' webhooks: verification, sources, expressions, presets
stuck                           the sweep: finds and ends stuck Executions
invocation                      one invocation: carries out commands; logs, counts, publishes outcomes
service, outcome                the core: ending what a command names, and the outcome
twilio/                         Twilio's Studio API: credentials, HTTP, rate limits
aws/                            AWS's APIs: clients, secrets, queues, events
config, command, schema, http_request, observability, deadline, errors
                                the command, and the foundation
"""
