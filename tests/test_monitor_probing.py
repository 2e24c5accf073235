"""What a monitor with a pool of its own measures: PINGs of its own, and no looks at the server."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from redisutils.monitor import probing as module
from redisutils.monitor.probing import probing
from redisutils.testing import EmbeddedServer, FaultProxy

from .ours import our_tasks, pool_at, until


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PROBES", 200)


async def test_probes_are_what_is_measured(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        before = our_tasks()
        async with probing(pool):
            await until(lambda: pool.metrics().latency.count > 3)
            await pool.health()
        assert our_tasks() == before
        assert set(pool.metrics().by_command) == {"PING"}


async def test_what_probes_fail_of_is_told(clean_server: EmbeddedServer, proxy: FaultProxy) -> None:
    pool = pool_at(clean_server, proxy, retry="never", max_retries=0)
    async with pool, probing(pool):
        await until(lambda: pool.metrics().latency.count)
        proxy.refuse()
        proxy.reset()
        await until(lambda: pool.metrics().failures)
        proxy.restore()
        answered = pool.metrics().latency.count
        await until(lambda: pool.metrics().latency.count > answered)


async def test_a_user_who_may_not_ping_is_left_alone(
    clean_server: EmbeddedServer, admin: Any
) -> None:
    """Each try would be written to the server's ACL LOG."""
    admin.acl_setuser("quiet", enabled=True, nopass=True, commands=["+@all", "-ping"])
    try:
        async with pool_at(clean_server, username="quiet", password="any") as pool:
            async with probing(pool):
                await until(lambda: pool.metrics().failures)
                await asyncio.sleep(10 / module.PROBES)
            assert sum(pool.metrics().failures.values()) == 1
    finally:
        admin.acl_deluser("quiet")
        admin.acl_log_reset()
