"""``make soak``: thousands of commands through the stack while everything around it fails.

- ``run``: one soak, from the first command to the report
- ``workload``: the commands, and the right outcome of each
- ``stack``: the queues and the rule of template.yaml, and Lambda around the function
- ``callers``: they send the commands, by every way in
- ``faults``: the schedule of what goes wrong
- ``report``: what happened, and whether every promise was kept
"""
