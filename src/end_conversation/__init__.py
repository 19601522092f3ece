"""Ends Twilio Studio Executions when a conversation is over.

An event's way through the modules, each of which imports only those before it:

errors, deadline       what can go wrong, and how long it may take
observability          the logger and the metrics
command, config        what is asked for, and how this deployment is set up
secret, credentials    AWS Secrets Manager, and what the Twilio secret holds
connection, studio     Twilio's Studio API
service                ends what a command names
invocation             one command, from its payload to its logged and counted outcome
http_api, sqs          the triggers that need more than a payload
app                    the Lambda handler: recognises the trigger
"""
