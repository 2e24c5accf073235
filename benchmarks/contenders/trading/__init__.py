"""What keeps quotes, trades and orders: our services, and what is written by hand."""

from __future__ import annotations

from benchmarks.contenders import OURS, Entry

ROSTER: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(OURS, "redisutils", "redisutils.trading", "contenders.trading.ours:Services"),
        Entry("redis-py", "redis", "redis.asyncio", "contenders.trading.redis_py:ByHand"),
    )
}
