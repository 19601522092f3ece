"""What the stack promises, put to the test with thousands of commands while everything around it fails.

- ``pace``: how fast time runs
- ``cloud``: AWS with the rule and the queues of template.yaml, whose services fail one by one
- ``orders``: the commands, and what has to come of each
- ``spells``: what goes wrong, one thing after the other
- ``sender``: the callers, by every way in
- ``sandbox``: a process of the function, to be killed at any moment
- ``poller``: what Lambda does between a queue and a function
- ``ledger``: what happened
- ``verdict``: whether every promise was kept
- ``run``: one soak, from the first command to the verdict
"""
