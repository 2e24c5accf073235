"""Side by side against peers: ``python -m benchmarks``.

Every measurement runs in a process of its own on one core, against one server on
another core. All contenders take turns within a round, so that whatever slows the
machine slows all of them, and what is reported are medians over rounds.
"""
