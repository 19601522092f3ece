"""Ends Twilio Studio Executions when a conversation is over.

An event's way through the modules, each of which imports only those above it:

errors, deadline            what can go wrong, and how long it may take
observability, once         the logger and the metrics; values that are made once
schema, command, config     what is asked for, and how this deployment is set up
aws, secret, credentials    AWS Secrets Manager, and what the Twilio secret holds
connection, gate, studio    Twilio's Studio API
service                     ends what a command names
invocation                  one command, from its payload to its logged and counted outcome
eventbridge, sqs,
webhook, http_api           what the triggers have of their own
app, sweep                  the Lambda handlers
"""
