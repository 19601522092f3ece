"""Runs the function on one machine, without AWS and without Twilio.

- ``run``: ``make run`` sends one event through the function
- ``serve``: ``make serve`` serves the function over HTTP; ``page`` is its page
- ``source``: ``make source`` shows what a source makes of a webhook
- ``stand_ins``: ``make stand-ins`` starts ``studio`` (Twilio) and ``aws`` (moto); ``faults`` makes them fail
- ``rie``: the function under Lambda's Runtime Interface Emulator
- ``gateway``: API Gateway: HTTP requests as events, and back
- ``poller``: Lambda's poller between a queue and the function
- ``relay``: connects the containers of sam local to the stand-ins
- ``samples``: the sample events; ``signing`` signs their webhooks
- ``canaries``: secrets and addresses that no output may contain
- ``terminal``: how the commands stop and look
"""
