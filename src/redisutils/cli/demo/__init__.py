"""``redisutils demo``: a trading service's day as one loop, every value checked.

Many tasks, one pool. Each task caches prices, moves its portfolio and publishes its
fills, and compares whatever comes back with a ledger it keeps in the process.

    market, tape   where trades come from
    desk           one task: its keys, its ledger, its checks
    loop           all desks, and the subscriber who receives their events
    figures        what is measured, while it runs and at the end
    view, summary  the terminal: live or line by line, and the closing table
    plot           the latency picture
"""
