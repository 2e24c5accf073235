"""Clients of a cluster side by side: ``python -m benchmarks.cluster``.

Three primaries on one core, the client on another, and beside them one more server of the same
kind for our own client without a cluster. The three share a core with nobody but each other, as
does the one: what a cluster costs is seen, and what it gains on three machines is not.
"""
