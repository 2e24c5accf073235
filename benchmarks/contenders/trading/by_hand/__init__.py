"""Market data and orders on redis-py, without a library for them.

Written as one does who knows redis-py: pipelines, transactions, WATCH, a task that conflates;
decimals as strings, numbers never as floats.
"""
