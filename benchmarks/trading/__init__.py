"""The trading services side by side with what is written by hand on redis-py:
``python -m benchmarks.trading``.

The ticks are real trades where a tape is found (``REDISUTILS_TAPE``), else simulated ones, and the
report says which. One server on one core, the client on another.
"""
