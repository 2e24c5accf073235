"""A fault that would not strike is refused, and those that do are to be seen."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from typing import Any

import pytest

from redisutils.errors import ConfigError, ConnectFailed
from redisutils.testing import (
    At,
    EmbeddedServer,
    Fault,
    FaultProxy,
    Latency,
    ServerProxy,
    Stall,
    Timeline,
)

one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])

SWITCHES: dict[str, Callable[[FaultProxy], None]] = {
    "stall": lambda proxy: proxy.stall(),
    "blackhole": lambda proxy: proxy.blackhole(),
    "swallow_replies": lambda proxy: proxy.swallow_replies(),
    "refuse": lambda proxy: proxy.refuse(),
    "close_all": lambda proxy: proxy.close_all(),
    "reset": lambda proxy: proxy.reset(),
    "half_close": lambda proxy: proxy.half_close(),
    "restore": lambda proxy: proxy.restore(),
}


def untyped(value: object) -> Any:
    """What a type checker would have refused."""
    return value


@one_loop
@pytest.mark.parametrize("switch", SWITCHES)
async def test_no_fault_is_switched_on_a_proxy_that_does_not_run(switch: str) -> None:
    proxy = FaultProxy("127.0.0.1", 1)
    with pytest.raises(RuntimeError, match="the proxy has not been started"):
        SWITCHES[switch](proxy)
    async with proxy:
        SWITCHES[switch](proxy)
    if switch == "restore":
        proxy.restore()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(proxy.host, proxy.port)
    else:
        with pytest.raises(RuntimeError, match="the proxy has been left"):
            SWITCHES[switch](proxy)


@one_loop
@pytest.mark.parametrize("fault", [Stall(), Latency(0.1)])
async def test_no_timeline_is_played_on_a_proxy_that_does_not_run(fault: Fault) -> None:
    proxy = FaultProxy("127.0.0.1", 1)
    with pytest.raises(RuntimeError, match="the proxy has not been started"):
        await Timeline([At(0, fault)], duration=0.01).play(proxy)
    assert "faults: none" in repr(proxy)


@one_loop
async def test_settings_made_before_the_start_hold() -> None:
    proxy = FaultProxy("127.0.0.1", 1)
    proxy.to_client.latency = 0.25
    async with proxy:
        assert "faults: to_client latency=0.25>" in repr(proxy)


@pytest.mark.parametrize("name", ["latency", "jitter", "bandwidth", "fragment"])
def test_a_setting_of_one_way_is_none_of_the_proxy(name: str) -> None:
    with pytest.raises(AttributeError, match=f"set '{name}' on to_client or to_server"):
        setattr(FaultProxy("127.0.0.1", 1), name, 0.3)


def test_misspelt_settings_are_refused() -> None:
    proxy = FaultProxy("127.0.0.1", 1)
    known = "there are latency, jitter, bandwidth, fragment, and cut_after()"
    message = f"Direction has no setting 'latencyy': {known}"
    with pytest.raises(AttributeError, match=f"^{re.escape(message)}$"):
        untyped(proxy.to_client).latencyy = 3
    with pytest.raises(AttributeError, match=r"^FaultProxy has no setting 'stalled'$"):
        untyped(proxy).stalled = True
    with pytest.raises(AttributeError):
        untyped(proxy).stall = True


@one_loop
async def test_the_repr_says_which_faults_are_in_force() -> None:
    async with FaultProxy("127.0.0.1", 1) as proxy:
        assert repr(proxy).endswith(f"seed={proxy.seed} faults: none>")
        proxy.stall()
        proxy.blackhole()
        proxy.refuse()
        proxy.swallow_replies(1)
        proxy.to_server.bandwidth = 1000
        proxy.to_client.cut_after(0)
        faults = "stalled, blackhole, refusing, swallowing, to_server bandwidth=1000, "
        assert f"faults: {faults}to_client cut_after=0>" in repr(proxy)
        assert repr(proxy.to_client) == "<Direction forwarded=0 discarded=0 cut_after=0>"
        proxy.restore()
        proxy.swallow_replies(0)
        assert repr(proxy).endswith("faults: none>")


@one_loop
async def test_a_proxy_before_a_server() -> None:
    server = EmbeddedServer(password="")
    with pytest.raises(ConnectFailed, match="has no port yet: start the server first"):
        ServerProxy(server)
    with pytest.raises(ConnectFailed, match="has no port: it was made without"):
        ServerProxy(EmbeddedServer(port=None))
    with pytest.raises(ConfigError, match=r"^server must be an EmbeddedServer, not str") as caught:
        ServerProxy(untyped("redis://:secret@x"))
    assert "secret" not in str(caught.value)
    async with server, ServerProxy(server) as proxy:
        assert repr(proxy).startswith("<ServerProxy :")
        with pytest.raises(
            ConfigError, match=r"^proxy must be a FaultProxy or None, not EmbeddedServer"
        ):
            Timeline([At(0, Stall())], duration=1).on(untyped(server))


@pytest.mark.parametrize("port", ["abc", 0, 65536, True, None])
def test_a_port_must_be_one(port: object) -> None:
    message = f"target_port={port!r} must be a whole number, 1 to 65535"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        FaultProxy("127.0.0.1", untyped(port))
