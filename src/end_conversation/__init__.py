"""Ends Twilio Studio Executions when a conversation is over.

An event's way through the rooms, each of which imports only what stands below it:

app, sweep          the Lambda handlers
triggers/           what the triggers have of their own: http_api, webhook, eventbridge, sqs
invocation          one command, from its payload to its logged and counted outcome
service, command    the core: doing what is asked for; what is asked for
twilio/             Twilio's Studio API: its credentials, its HTTP, its rate limits
secret, aws         AWS Secrets Manager, and the clients of AWS
config, schema, observability, once, deadline, errors
                    what all of it stands on
"""
