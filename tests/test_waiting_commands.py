"""What a command waits for on the server by its caller's wish is nobody's latency."""

from __future__ import annotations

import pytest

from redisutils.connection.naming import blocks, command_name
from redisutils.connection.packing import pack
from redisutils.testing import EmbeddedServer

from .ours import pool_at


async def test_a_blocking_command_is_measured_apart(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        for _ in range(10):
            await pool.client.get("k")
        before = pool.metrics()
        assert await pool.client.blpop(["queue"], timeout=0.1) is None
        found = pool.metrics()
        assert found.by_command["BLPOP"].latency.max >= 0.1
        assert found.by_command["BLPOP"].split.wire >= 0.09
        assert found.latency == before.latency
        assert found.parts == before.parts
        assert found.composition == before.composition
        assert "BLPOP" not in {slow.command for slow in found.slow}
        assert found.commands == 11


@pytest.mark.parametrize(
    ("command", "waits"),
    [
        (("BLPOP", "k", "0"), True),
        (("XREAD", "BLOCK", "100", "STREAMS", "s", "$"), True),
        (("XREAD", "STREAMS", "s", "$"), False),
        (("WAIT", "1", "100"), True),
        (("GET", "BLOCK"), False),
        (("BITCOUNT", "k"), False),
    ],
)
def test_which_commands_wait(command: tuple[str, ...], waits: bool) -> None:
    payload = pack(command)
    assert blocks(command_name(payload), payload) is waits
