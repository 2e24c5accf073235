"""How each client is set up, and what it has that would do better: for the page of results."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Setup:
    """How one client is set up. ``B`` stands for the scenario's budget."""

    shared: str
    pooled: str
    better: tuple[str, ...] = ()
    """Settings or habits that help against one of the faults, and what they cost."""


SETUPS = {
    "redisutils": Setup(
        "`create_redis_pool(command_timeout=B)`, its `client`",
        "the same with `pool_max_size`, `pool.get()`",
    ),
    "redis-py": Setup(
        "`Redis(socket_timeout=B, socket_connect_timeout=B)`; its own 10 retries, with backoff",
        "`BlockingConnectionPool(max_connections=…, timeout=B)`, a connection for each call",
        (
            (
                "`retry=Retry(NoBackoff(), 0)` sends nothing twice. Each lost connection is an "
                "error then, for reads too and while a server restarts, and the errors still do "
                "not say whether the write happened."
            ),
            (
                "Its timeouts hold for each attempt. `asyncio.timeout(B)` round every call bounds "
                "the whole; what was being written then may or may not have happened."
            ),
        ),
    ),
    "coredis": Setup(
        "`Redis(stream_timeout=B, connect_timeout=B, pool_timeout=B)`; its own 2 retries",
        "the same with `max_connections`, `connection_pool.acquire()`",
        (
            (
                "`retry_policy=NoRetryPolicy()` sends nothing twice, with the same consequences as "
                "for redis-py. An `ExponentialBackoffRetryPolicy` of 10 retries outlasts the "
                "restart without an error, and sends more writes twice."
            ),
            (
                "`max_idle_time=2` replaces half-open connections after 2 s, and closes every "
                "connection that receives nothing for as long."
            ),
        ),
    ),
    "valkey-glide": Setup(
        "`GlideClientConfiguration(request_timeout=B)`; its own reconnecting",
        "`AsyncClientPool` with `max_size`, `acquire_timeout_s=B`; each item is a whole client",
        (
            (
                "Its documentation advises another client for blocking commands. With a "
                "`scoped_connection()` for each BLPOP nothing stands still and no item is lost."
            ),
            (
                "Who waits for a client of its pool asks again every 5 to 50 ms: under a crowd "
                "it is luck who gets one. A semaphore round `borrow()` would put them in a row."
            ),
        ),
    ),
}
