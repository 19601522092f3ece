"""Ends Twilio Studio Executions when a conversation is over.

The modules, in the order in which an event travels; each imports only what is below it, or on its line:

app, sweep                      the Lambda handlers
triggers/                       AWS's event formats and the answers they expect
webhooks/                       other systems' webhooks: proofs, sources, expressions, presets
stuck                           the sweep: finds and ends stuck Executions
invocation                      one invocation: carries out commands; logs, counts, publishes outcomes
service, outcome                the core: ending what a command names, and what came of it
twilio/                         Twilio's Studio API: credentials, HTTP, rate limits
aws/                            AWS's APIs: clients, secrets, queues, events
config, command, schema, http_request, observability, deadline, errors
                                the foundation; command is what everything is about
"""
