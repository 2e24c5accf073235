"""Clusters and sentinels to which everything happens, for minutes, while callers work.

``python -m tests.chaos --help`` says how to run it. What the callers do and what is known of every
answer beforehand stands in ``tests/cluster_load.py``.

=============  ===================================================================
``scenarios``  what happens: slots move, nodes die, are cut off, come and go
``run``        round after round of each, with callers, and what was found
``sentinel``   a primary that sentinels watch over is replaced, over and over
=============  ===================================================================
"""
