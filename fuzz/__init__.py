"""Every entry of the function, fed with whatever anybody could send, at random and guided by coverage.

- ``inputs``: what is sent, as hypothesis generates it
- ``world``: the function in this process, with all that it talks to, and what may never happen
- ``model``: what has to come of a command, by other means than the function's
- ``scripted``: a Twilio that answers what it is told to, byte for byte
- ``targets``: the entries, each with its inputs and with what has to come of them
- ``worker``: one target under one engine, in a process of its own
- ``__main__``: ``make fuzz``, all targets under both engines, and the figures
"""
