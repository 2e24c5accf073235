"""The cluster clients that are compared, and ours against one server."""

from __future__ import annotations

from benchmarks.contenders import OURS, STANDALONE, Entry

ROSTER: dict[str, Entry] = {
    entry.name: entry
    for entry in (
        Entry(OURS, "redisutils", "redisutils", "contenders.clusters.ours:RedisutilsCluster"),
        Entry("redis-py", "redis", "redis.asyncio", "contenders.clusters.redis_py:RedisPyCluster"),
        Entry("coredis", "coredis", "coredis", "contenders.clusters.coredis_client:CoredisCluster"),
        Entry(
            "valkey-glide", "valkey-glide", "glide", "contenders.clusters.valkey_glide:GlideCluster"
        ),
        Entry(
            STANDALONE, "redisutils", "redisutils", "contenders.clusters.ours:RedisutilsStandalone"
        ),
    )
}
