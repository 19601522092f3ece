"""Fuzzing: every entry point, fed with whatever anybody could send it.

- ``inputs``: the commands, and what is left of them on a bad day
- ``deliveries``: events of every AWS trigger that carry them
- ``webhooks``: webhooks as other systems send them, genuine and forged
- ``twilio``: responses that Twilio never sends
- ``model``: the right outcome of a command, worked out independently of the function
- ``conftest``: the function, and the invariants that hold for every input

``make test`` sends a hundred inputs to each, ``make fuzz`` as many as you like.
"""
