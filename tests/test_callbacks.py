"""A client's response callbacks: whatever way they are changed, the next command knows."""

from __future__ import annotations

from typing import Any

from redisutils.testing import EmbeddedServer

from .ours import client_at


def mine(answer: Any, **_: Any) -> tuple[str, Any]:
    return "mine", answer


async def test_each_way_to_change_them(clean_server: EmbeddedServer) -> None:
    client: Any
    async with client_at(clean_server) as client:
        callbacks = client.response_callbacks

        async def answer() -> Any:
            alone = await client.get("k")
            pipe: Any = client.pipeline()
            assert await pipe.get("k").execute() == [alone]
            return alone

        assert await client.set("k", "v") is True
        assert await answer() == b"v"
        client.set_response_callback("GET", mine)
        assert await answer() == ("mine", b"v")
        del callbacks["get"]
        assert await answer() == b"v"
        callbacks.update({"get": mine})
        assert await answer() == ("mine", b"v")
        assert callbacks.pop("get") is mine
        assert callbacks.pop("get", None) is None
        assert await answer() == b"v"
        callbacks["GET"] = mine
        assert await answer() == ("mine", b"v")
        callbacks.clear()
        assert await answer() == b"v"
        assert await client.set("k", "v") == b"OK"


async def test_ones_own_stay_when_the_protocol_turns_out_to_be_another(
    clean_server: EmbeddedServer,
) -> None:
    client: Any
    async with client_at(clean_server, protocol=2) as client:
        client.set_response_callback("HGETALL", mine)
        await client.hset("h", "f", "v")
        assert await client.hgetall("h") == ("mine", [b"f", b"v"])
