"""Where a server is: host and port, how they are written, and how they look from here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

__all__ = [
    "CLUSTER_PORT",
    "SENTINEL_PORT",
    "Address",
    "AddressLike",
    "AddressMap",
    "AddressMapLike",
    "AddressesLike",
    "address_of",
    "address_pairs",
    "addresses",
    "check_host",
    "split_address",
]

CLUSTER_PORT: Final = 6379
"""Of a server that is written without one."""
SENTINEL_PORT: Final = 26379
"""Of a sentinel that is written without one."""


class Address(NamedTuple):
    """A host (a name, an IPv4 or an IPv6 address, without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


AddressMap = Mapping[Address, Address]
"""For NAT and containers: where each announced address is to be reached from here. An address
that is not in it is taken as it is."""

AddressLike = str | tuple[str, int]
"""An address as people write it: ``"10.0.0.1:7000"``, ``"[::1]:7000"``, ``("10.0.0.1", 7000)``."""
AddressesLike = str | Sequence[AddressLike]
"""Several: in one text, with commas between them, or one by one."""
AddressMapLike = str | Mapping[AddressLike, AddressLike] | Sequence[tuple[AddressLike, AddressLike]]
"""Pairs of addresses: ``"10.0.0.1:7000=127.0.0.1:17000,…"``, a mapping, or one by one."""


def address_of(given: object, default_port: int | None) -> Address:
    """One address.

    Args:
        given: an :data:`AddressLike`.
        default_port: of one without a port; None when it needs one.

    Raises ``ValueError`` with what would be right; its message does not hold the host.
    """
    if isinstance(given, str):
        host, port = split_address(given.strip(), default_port)
        return Address(check_host(host), port)
    match given:
        case [str() as host, int() as port] if 1 <= port <= 65_535 and not isinstance(port, bool):
            return Address(check_host(host.strip()), port)
    raise ValueError('must be "host:port" or (host, port), with a port between 1 and 65,535')


def addresses(given: object, default_port: int) -> tuple[Address, ...]:
    """Several addresses in their order, each once.

    Args:
        given: an :data:`AddressesLike`; "" and None are none.
        default_port: of those without a port.

    Raises ``ValueError`` as :func:`address_of` does, and names the one that is wrong by its place.
    """
    found = {
        _numbered(number, item, default_port): None for number, item in enumerate(_items(given), 1)
    }
    return tuple(found)


def address_pairs(given: object) -> tuple[tuple[Address, Address], ...]:
    """Pairs of addresses, each with its port: as announced, and as reached from here.

    Args:
        given: an :data:`AddressMapLike`; "" and None are none.

    Raises ``ValueError`` for what is no pair, and for an address that is announced twice.
    """
    pairs: dict[Address, Address] = {}
    items = given.items() if isinstance(given, Mapping) else _items(given)
    for number, item in enumerate(items, 1):
        left, right = _pair(number, item)
        announced = _numbered(number, left, None)
        if announced in pairs:
            raise ValueError(f"names {announced} twice, which can be reached in one place only")
        pairs[announced] = _numbered(number, right, None)
    return tuple(pairs.items())


def split_address(text: str, default_port: int | None) -> tuple[str, int]:
    """Host and port of ``host``, ``host:port``, ``[IPv6]`` or ``[IPv6]:port``.

    The host is as it was written, for :func:`check_host` to check.

    Raises ``ValueError`` with what would be right; its message never holds ``text``.
    """
    if text.startswith("["):
        host, bracket, after = text[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise ValueError("an IPv6 address is written in brackets: [::1]:6379")
        host, colon, port = f"[{host}]", after[:1], after[1:]
    else:
        host, colon, port = text.partition(":")
        if ":" in port:
            raise ValueError("an IPv6 address is written in brackets: [::1]:6379")
    if not colon:
        if default_port is None:
            raise ValueError("needs a port: host:port")
        number = default_port
    else:
        if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65_535):
            raise ValueError("its port must be between 1 and 65,535")
        number = int(port)
    return host, number


def check_host(host: str) -> str:
    """``host`` as a socket takes it: a name, an IPv4 or an IPv6 address without brackets.

    Raises ``ValueError`` when it is something else, such as a URL or ``host:port``.
    """
    if "://" in host:
        raise ValueError("must be a host alone: a URL belongs into REDIS_URL")
    if "/" in host:
        raise ValueError("must be a host alone: for a Unix socket set REDIS_URL=unix:///path")
    if "," in host:
        raise ValueError("must be one host: several belong into REDIS_NODES")
    if not host or any(char <= " " or char in "@?#=\x7f" for char in host):
        raise ValueError("must be a host name or an IP address")
    inner = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if ":" not in inner:
        if inner is not host:
            raise ValueError("only an IPv6 address stands in brackets")
        return host
    import ipaddress  # only here: few need it, and importing it takes a millisecond

    try:
        ipaddress.IPv6Address(inner)
    except ValueError:
        if inner.count(":") == 1 and inner is host:
            raise ValueError("must be a host alone: the port belongs into REDIS_PORT") from None
        raise ValueError("is not an IPv6 address") from None
    return inner


def _items(given: object) -> Iterator[object]:
    if given is None or given == "":
        return
    if isinstance(given, str):
        yield from given.split(",")
    elif isinstance(given, Sequence) and not isinstance(given, (bytes, Mapping)):
        yield from given
    else:
        raise ValueError("must be text, or a sequence of addresses")


def _numbered(number: int, item: object, default_port: int | None) -> Address:
    wrong = ""
    try:
        if isinstance(item, str) and any(char in " ;\t\n" for char in item.strip()):
            raise ValueError("several addresses are separated by commas")
        return address_of(item, default_port)
    except ValueError as error:
        wrong = str(error)
    raise ValueError(f"its address no. {number}: {wrong}")


def _pair(number: int, item: object) -> tuple[object, object]:
    if isinstance(item, str):
        left, equals, right = item.partition("=")
        if equals and "=" not in right:
            return left, right
    elif isinstance(item, (tuple, list)) and len(item) == 2:
        return item[0], item[1]
    raise ValueError(
        f"its pair no. {number} must be announced=reachable, as in host:port=host:port"
    )
