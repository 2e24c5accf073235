"""TCP: does each address accept connections, and is it a Redis server that answers there?"""

from __future__ import annotations

import asyncio
import errno
from dataclasses import dataclass, replace
from time import perf_counter
from typing import Final

from redisutils.cli.check.case import Case
from redisutils.cli.check.finding import Say, Stop
from redisutils.cli.check.peer import Peer, meet
from redisutils.cli.check.units import listed, span
from redisutils.connection.reach import why

__all__ = ["check_port", "not_redis"]

_BUS: Final = 10_000
"""How far a cluster's bus lies above its port."""

_TO_BE_TOLD: Final = 0.9
"""Of the step's time, after which silence is told as such."""

_SHARE: Final = 0.6
"""Of the step's time, for connecting; the rest is for finding out who is there."""


@dataclass(frozen=True, slots=True)
class _Attempt:
    address: str
    seconds: float
    error: OSError | None = None

    @property
    def told(self) -> str:
        if self.error is None:
            return f"{self.address} accepts in {span(self.seconds)}"
        if isinstance(self.error, TimeoutError):
            return f"{self.address} does not answer for {span(self.seconds)}"
        if isinstance(self.error, ConnectionRefusedError):
            return f"{self.address} refuses"
        return f"{self.address}: {why(self.error)}"


async def check_port(case: Case, say: Say) -> None:
    """The step."""
    port = case.config.port
    started = perf_counter()
    attempts = await asyncio.gather(*(_attempt(case, address) for address in case.addresses))
    told = f"port {port}: {listed([each.told for each in attempts])}"
    facts = {
        "port": port,
        "attempts": [
            {
                "address": each.address,
                "seconds": each.seconds,
                "error": None if each.error is None else type(each.error).__name__,
            }
            for each in attempts
        ],
    }
    good = [each for each in attempts if each.error is None]
    if not good:
        first = attempts[0]
        assert first.error is not None
        say.error(told, _remedy(case, first.error), **facts)
        raise Stop
    case.address = good[0].address
    first = attempts[0]
    if first.error is None:
        say.ok(told, **facts)
    else:
        say.warning(
            told,
            f"Each new connection tries {first.address} first, in vain. Set REDIS_HOST="
            f"{case.address}, or let the server listen on {first.address} too (`bind`), or correct "
            "the name's addresses.",
            **facts,
        )
    if not case.config.tls_enabled:
        # Nearly all that is left of the step: a server that pauses for a while is not silent.
        left = _TO_BE_TOLD * case.timeout - (perf_counter() - started)
        peer = await meet(case.options(), case.address, left)
        if peer.kind != "redis":
            await not_redis(case, peer, say)
        case.open_door = peer.obeys


async def _attempt(case: Case, address: str) -> _Attempt:
    started = perf_counter()
    error: OSError | None = None
    try:
        async with asyncio.timeout(_SHARE * case.timeout):
            _, writer = await asyncio.open_connection(address, case.config.port)
            writer.transport.abort()
    except OSError as caught:  # TimeoutError is one
        error = caught
    return _Attempt(address, perf_counter() - started, error)


def _remedy(case: Case, error: OSError) -> str:
    port = case.config.port
    if isinstance(error, ConnectionRefusedError):
        return (
            "The machine is there, but nothing listens. Is the server running, and on this port "
            f"(there: `ss -ltn | grep {port}`)? Does its `bind` include this address, or only "
            "127.0.0.1? In a container: is the port published?"
        )
    if isinstance(error, TimeoutError):
        return (
            "Nobody says no, so something swallows the packets: a firewall, a security group, a "
            f"network policy, or a machine that is off. Allow TCP to port {port} from here."
        )
    if error.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH}:
        return "There is no way there: is the VPN up, and is this the right network?"
    return "Check REDIS_HOST and REDIS_PORT, and the network between."


async def not_redis(case: Case, peer: Peer, say: Say) -> None:
    """Tell who answers at the port instead of a Redis server in plain, and stop."""
    port = case.config.port
    where = f"port {port}"
    settings = "Check REDIS_HOST and REDIS_PORT; Redis usually listens on 6379."
    facts = {"peer": peer.kind, "said": peer.said}
    if peer.kind == "http":
        say.error(f"a web server answers at {where}: {peer.said!r}", settings, **facts)
    elif peer.kind == "tls":
        say.error(
            f"the server speaks TLS at {where}, and is spoken to in plain",
            "Set REDIS_TLS_ENABLED=true (or rediss:// in REDIS_URL), and REDIS_TLS_CA_PATH when "
            "its certificate is of an authority of your own.",
            **facts,
        )
    elif peer.kind == "other":
        say.error(f"what answers at {where} is no Redis server: {peer.said!r}", settings, **facts)
    elif peer.kind == "silent":
        say.error(
            f"{where} accepts connections, and then nobody answers",
            "The server may be frozen (stopped, swapping, a long script), or a proxy or firewall "
            "accepts in its place, or this is no Redis server. On its machine: "
            f"`redis-cli -p {port} PING`.",
            **facts,
        )
    elif await _is_bus(case):
        say.error(
            f"{where} is the bus by which the nodes of a cluster talk to each other",
            f"Clients use port {port - _BUS}: set REDIS_PORT={port - _BUS}.",
            **facts,
        )
    else:
        say.error(
            f"{where} accepts connections, and hangs up without a word",
            "A proxy without a server behind it, a server that is just starting or ending, or no "
            f"Redis server. {settings}",
            **facts,
        )
    raise Stop


async def _is_bus(case: Case) -> bool:
    port = case.config.port - _BUS
    if port <= 0:
        return False
    return (await meet(replace(case.options(), port=port), case.address)).kind == "redis"
