"""Market data: what was traded, at which price, and when."""
