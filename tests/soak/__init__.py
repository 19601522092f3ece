"""What the stack promises, tested with thousands of commands while everything around it fails.

- ``workload``: the commands, and the right outcome of each
- ``stack``: the queues and the rule of template.yaml, and what Lambda does around the function
- ``senders``: the callers, by every way in
- ``faults``: the schedule of what goes wrong
- ``record``: what happened
- ``report``: whether every promise was kept
- ``run``: one soak, from the first command to the report
"""
