"""Names that the nodes of a cluster give each other, and that may mean nothing here.

A node may announce a host name (``cluster-announce-hostname``, of
https://valkey.io/topics/cluster-spec/), and the map has its IP address besides. Where the name
does not resolve, that address is tried. In TLS the certificate must be the name's all the same.
"""

from __future__ import annotations

import socket
from dataclasses import dataclass, replace
from ipaddress import ip_address
from typing import Final

from redisutils.address import Address
from redisutils.connection.dial import dial
from redisutils.connection.options import ConnectOptions
from redisutils.connection.protocol import Connection
from redisutils.errors import ConnectFailed
from redisutils.metrics.counters import PoolMetrics

__all__ = ["Announced", "dial_announced", "ip_besides"]

_CURE: Final = "let the name resolve here, or say where it is: REDIS_ADDRESS_MAP={}=host:port"


@dataclass(frozen=True, slots=True)
class Announced:
    """How we come to look for a node where we do."""

    by: Address | None = None
    """Who named it; None if we were told by settings, or by a redirect."""
    ip: str | None = None
    """Its IP address, as far as it was told besides, and leads there from here."""
    meant: Address | None = None
    """What it was announced as, if ``REDIS_ADDRESS_MAP`` says where that is."""
    seed: bool = False
    """Whether the settings name it, and no node has so far."""


def ip_besides(host: str, ip: object, asked: str) -> str | None:
    """The IP address to try where the ``host`` that a node announces does not resolve.

    Args:
        ip: what is told besides.
        asked: the host of who told: a loopback address is the same machine's only.
    """
    if not ip or ip == host:
        return None
    try:
        told = ip_address(str(ip))
    except ValueError:
        return None
    if told.is_unspecified or (told.is_loopback and not _is_here(asked)):
        return None
    return str(ip)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


async def dial_announced(
    options: ConnectOptions, metrics: PoolMetrics, silence: float, known: Announced
) -> Connection:
    """As :func:`redisutils.connection.dial.dial`, to where a node is said to be."""
    try:
        return await dial(options, metrics, silence=silence)
    except ConnectFailed as error:
        if not isinstance(error.__cause__, socket.gaierror) or known.seed:
            raise
        unresolved = error
    if known.ip is None:
        raise ConnectFailed(f"{unresolved.message}: {_told(options, known)}") from unresolved
    try:
        return await dial(replace(options, at=known.ip), metrics, silence=silence)
    except ConnectFailed as error:
        if error.fatal or error.own:
            raise  # it is there, and something else is wrong
        raise type(error)(
            f"{unresolved.message}, and at the IP address {known.ip}, which is told besides, it is "
            f"not reached either ({error.message}): {_told(options, known)}"
        ) from error


def _told(options: ConnectOptions, known: Announced) -> str:
    """Where the name is from, and what to do about it."""
    if known.meant is not None:
        return (
            f"REDIS_ADDRESS_MAP (address_map=) says that {known.meant} is there: "
            "give a name that resolves here, or an IP address"
        )
    who = "another node, in a redirect," if known.by is None else str(known.by)
    return f"{who} announces the node so; {_CURE.format(options.address)} (address_map=)"
