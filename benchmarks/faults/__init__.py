"""The same faults, several clients: ``python -m benchmarks.faults``.

Each scenario does something to the network or to the server and counts what the callers of a
client see of it. Each pair of scenario and client runs in a process of its own, against a
server of its own, and has a deadline: a client that crashes or hangs costs its own cell only.
"""
