"""The log of slow commands shows keys only to those who asked for them."""

from __future__ import annotations

from typing import Literal

import pytest

from redisutils.testing import EmbeddedServer

from .ours import pool_at


@pytest.mark.parametrize("shown", ["hash", "plain"])
async def test_keys(clean_server: EmbeddedServer, shown: Literal["hash", "plain"]) -> None:
    async with pool_at(clean_server, slow_log_keys=shown) as pool:
        await pool.client.get("account:17")
        keys = [slow.key for slow in pool.metrics().slow if slow.command == "GET"]
        assert len(keys) == 1
        assert (keys == ["account:17"]) is (shown == "plain")
        assert keys[0]
