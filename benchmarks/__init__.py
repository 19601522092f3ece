"""How fast and small the function is, measured against what people would write instead.

- ``__main__``: ``make bench``, cold start, warm invocation, batch and size in one table
- ``sweep``: ``make bench-sweep``, what lists of many Executions cost
- ``missed``: what lists miss while Executions end
- ``reference_sdk``: a handler as people write it today
- ``reference_least``: the least code that does the job
- ``trees``: the function and the references, each built as it ships
- ``processes``: handlers in fresh processes, timed or with their instructions counted
- ``driver``: what runs in those processes
- ``stand_in``: Twilio and Secrets Manager over TLS
- ``costs``: what the figures come to in Lambda
- ``tables``: figures as tables
"""
