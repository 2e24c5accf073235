"""What a cluster and its clients do to each other when there are many: the parts of
``benchmarks/simulate_cluster.py``.

Each part is a pure function of its arguments, chance included, and says what it leaves out.
"""
