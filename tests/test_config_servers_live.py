"""What real sentinels and nodes of a cluster say to wrong settings, and which setting is named."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from redisutils.client.configured import connect_options, plan
from redisutils.config import RedisConfig
from redisutils.connection.dial import dial
from redisutils.connection.options import ConnectOptions
from redisutils.errors import AuthenticationFailed, ConnectFailed
from redisutils.metrics import PoolMetrics
from redisutils.testing import EmbeddedServer, find_servers
from redisutils.topology.plan import SentinelPlan

from .monitored import one_loop


@pytest.fixture(scope="module", params=find_servers())
def sentinel(request: pytest.FixtureRequest) -> Iterator[EmbeddedServer]:
    with EmbeddedServer(request.param, role="sentinel", password="s3cret") as server:
        yield server


def sentinel_options(server: EmbeddedServer, **settings: Any) -> ConnectOptions:
    config = RedisConfig(
        _env_file=None,
        mode="sentinel",
        nodes=[(server.host, server.port)],
        sentinel_master="m",
        username="trader",
        password="of-the-servers",
        database=3,
        **settings,
    )
    its_plan = plan(config, connect_options(config, None))
    assert isinstance(its_plan, SentinelPlan)
    [options] = its_plan.sentinels
    return options


@one_loop
async def test_a_sentinel_is_let_in_by_settings_of_its_own(sentinel: EmbeddedServer) -> None:
    options = sentinel_options(sentinel, sentinel_password="s3cret")
    connection = await dial(options, PoolMetrics())
    connection.close()


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({}, "none is set: set REDIS_SENTINEL_PASSWORD (and REDIS_SENTINEL_USERNAME for an ACL"),
        ({"sentinel_password": "wrong"}, "Check REDIS_SENTINEL_USERNAME and REDIS_SENTINEL_PASS"),
    ],
)
@one_loop
async def test_a_sentinel_that_refuses_names_them(
    sentinel: EmbeddedServer, settings: dict[str, Any], told: str
) -> None:
    with pytest.raises(AuthenticationFailed) as failure:
        await dial(sentinel_options(sentinel, **settings), PoolMetrics())
    assert told in str(failure.value)
    assert "of-the-servers" not in str(failure.value)


@pytest.mark.parametrize("kind", find_servers())
@one_loop
async def test_a_cluster_without_the_database_says_which_setting_is_wrong(kind: Any) -> None:
    with EmbeddedServer(kind, role="cluster", password="") as server:
        config = RedisConfig(
            _env_file=None, mode="cluster", nodes=[(server.host, server.port)], database=2
        )
        with pytest.raises(ConnectFailed) as failure:
            await dial(connect_options(config, None), PoolMetrics())
        assert failure.value.fatal
        assert "REDIS_DATABASE" in str(failure.value)
        assert "cluster" in str(failure.value)
