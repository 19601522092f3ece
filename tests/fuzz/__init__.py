"""Fuzzing: every handler, fed with whatever anybody could send, at random and guided by coverage.

- ``inputs``: what is sent, as hypothesis strategies
- ``sources``: webhooks as other systems send them, and declarations of such systems
- ``model``: the outcome that a command must have, worked out independently of the function
- ``world``: the function in this process, with stand-ins, and the invariants that hold for every input
- ``scripted``: a Twilio that answers what it is told to, byte for byte
- ``targets``: the entries, each with its inputs and checks
- ``worker``: one target under one engine, in a process of its own
- ``__main__``: ``make fuzz``, all targets under all engines
"""
