"""What makes the function run on one machine, without AWS and without Twilio.

- ``studio``: Twilio Studio's REST API, with faults on request: the only stand-in for Twilio
- ``aws``: AWS on this machine (moto's server)
- ``samples``: the commands that an event carries
- ``canaries``: texts that are planted in order to be searched for
- ``signing``: webhooks, signed as their senders sign them
- ``source``: what a source's declaration makes of an event
- ``stand_ins``: both stand-ins, started and seeded so that they fit together
- ``relay``: the way from the containers of sam local to the stand-ins
- ``rie``: a Lambda function under AWS's own Runtime Interface Emulator
- ``poller``: a queue's messages as Lambda hands them to a function
- ``gateway``: HTTP requests as API Gateway's events, and the function's answers as HTTP
- ``page``: the API to read and to try in a browser
- ``terminal``: what the commands share
- ``run``: ``make run``, one event through the function
- ``serve``: ``make serve``, the function behind an HTTP endpoint
"""
