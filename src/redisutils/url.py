"""Server URLs: taken apart, and shown without their secrets.

Accepted, with everything percent-decoded::

    redis://[[user]:password@]host[:port][/database][?db=N]     valkey:// is the same
    rediss://...                                                the same over TLS; so is valkeys://
    unix://[[user]:password@]/path/to/socket[?db=N]
    embedded://[/database][?db=N]                               a private server

    redis+cluster://[[user]:password@]host[:port][,host[:port]...][/database][?db=N]
    redis+sentinel://[[user]:password@]host[:port][,host[:port]...][/master[/database]][?db=N]

The last two also with rediss, valkey and valkeys. Their hosts are nodes to ask first, or the
sentinels; user and password are the servers'.

redis-py's parser is not used: it reads connection arguments from the query,
and takes an unknown one in silence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import unquote

from redisutils.address import CLUSTER_PORT, SENTINEL_PORT, Address, check_host, split_address

__all__ = [
    "DEFAULT_HOST",
    "DEFAULT_PORT",
    "SCHEMES",
    "ManyMode",
    "ServerUrl",
    "masked",
    "masked_nodes",
    "parse_url",
]

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 6379

ManyMode = Literal["sentinel", "cluster"]

_ONE_SERVER: Final = ("redis", "rediss", "unix", "valkey", "valkeys", "embedded")
_PORTS: Final[dict[ManyMode, int]] = {"sentinel": SENTINEL_PORT, "cluster": CLUSTER_PORT}
_MANY_SERVERS: Final = {
    f"{base}+{mode}": (mode, port)
    for mode, port in _PORTS.items()
    for base in ("redis", "rediss", "valkey", "valkeys")
}
"""What the servers behind each are, and the port of a host that is written without one."""
_BEGINNINGS: Final = ", ".join(f"{name}://" for name in (*_ONE_SERVER, "redis+sentinel"))
SCHEMES = (*_ONE_SERVER, *_MANY_SERVERS)

_PORT: Final = re.compile(r"(:\d{0,5})?\s*")
_NEARLY_A_PORT: Final = re.compile(r"(:(?!.{7})\d*[^\s\d]?\d*)?\s*")
"""Six characters at most, of which one at most is no digit: too few for a password."""


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """What a URL says. None where it is silent."""

    scheme: str
    host: str | None = DEFAULT_HOST
    port: int | None = DEFAULT_PORT
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int | None = None
    path: str | None = None
    """The socket of a ``unix://`` URL."""
    place: str = ""
    """The URL as it was written, less user, password, database and master."""
    nodes: tuple[Address, ...] | None = None
    """Of many servers, those to ask first; they stand in for host and port."""
    sentinel_master: str | None = None

    @property
    def tls_enabled(self) -> bool | None:
        """True when the scheme asks for TLS, else None: it is silent about it."""
        return True if self.scheme.partition("+")[0] in ("rediss", "valkeys") else None

    @property
    def mode(self) -> ManyMode | None:
        """What the servers are when the scheme says it, else None: it is silent about it."""
        return _MANY_SERVERS[self.scheme][0] if self.scheme in _MANY_SERVERS else None

    @property
    def embedded(self) -> bool:
        """Whether the scheme asks for a private server."""
        return self.scheme == "embedded"


def parse_url(text: str) -> ServerUrl:
    """Take ``text`` apart.

    Raises ``ValueError`` with what would be right; its message never holds ``text``.
    """
    given_scheme, separator, rest = text.partition("://")
    scheme = given_scheme.lower()
    if not separator or scheme not in SCHEMES:
        raise ValueError(f"must begin with {_BEGINNINGS} or redis+cluster://")
    if any(char <= " " or char == "\x7f" for char in text):
        raise ValueError("must not hold spaces or control characters: percent-encode them")
    if "#" in rest:
        raise ValueError("a # in it must be percent-encoded as %23")

    address, _, query = rest.partition("?")
    authority, slash, path = address.partition("/")
    userinfo, _, place = authority.rpartition("@")
    if scheme != "unix" and "@" in path + query:
        raise ValueError("a / or ? in the user name or password must be percent-encoded")
    raw_user, _, raw_password = userinfo.partition(":")
    username, password = _decoded(raw_user), _decoded(raw_password)

    in_query = _database_in(query)
    if scheme == "unix":
        if place or not slash or not path:
            raise ValueError("needs three slashes and a path: unix:///run/redis.sock")
        return ServerUrl(
            scheme,
            username=username,
            password=password,
            database=in_query,
            path=_decoded("/" + path),
            place=f"{scheme}:///{path}",
        )
    master = None
    if scheme.endswith("+sentinel"):
        raw_master, _, path = path.partition("/")
        master = _decoded(raw_master)
    in_path = _database(path) if path else None
    if in_path is not None and in_query is not None and in_path != in_query:
        raise ValueError(f"names two databases: /{in_path} and ?db={in_query}")
    database = in_path if in_path is not None else in_query
    if scheme == "embedded":
        if authority:
            raise ValueError("embedded:// takes no host, user or password")
        return ServerUrl(scheme, database=database, place=f"{scheme}://")
    whole = f"{scheme}://{place}"
    if scheme in _MANY_SERVERS:
        if "@" in userinfo:
            raise ValueError(
                "takes user and password once, before the first host; an @ in them must be "
                "percent-encoded as %40"
            )
        if not place:
            raise ValueError(f"names no host: {scheme}://host:port,host:port")
        nodes = tuple(_nodes(place, _MANY_SERVERS[scheme][1]))
        return ServerUrl(
            scheme, None, None, username, password, database, None, whole, nodes, master
        )
    if "," in place:
        raise ValueError("names several hosts: begin it with redis+cluster:// or redis+sentinel://")
    host, port = _host_and_port(place, DEFAULT_PORT)
    return ServerUrl(scheme, host, port, username, password, database, place=whole)


def masked(text: str) -> str:
    """``text``, which may not even be a valid URL, with everything that may be secret as ``***``.

    Rather hides too much than too little: in a broken URL the password may stand anywhere.
    """
    scheme, separator, rest = text.partition("://")
    if text and text != "localhost" and not re.search(r"[:./@\[]", text):
        return "***"  # a single word is no address, and may be a password in the wrong place
    if not separator:
        scheme, rest = "", text
    shown = ""
    socket = scheme.lower() == "unix"
    if not (socket and rest.startswith("/")):
        userinfo, at, rest = rest.rpartition("@")
        user, colon, _ = userinfo.partition(":")
        shown = f"{user}:***@" if colon else "***@" if at else ""
    rest, sharp, _ = rest.partition("#")
    address, question, query = rest.partition("?")
    if not socket:
        address = re.sub(r"(?i)^.*%40", "***%40", address)
        place, slash, path = address.partition("/")
        if "+" in scheme:
            place = _masked_nodes(place, _PORT)
        else:
            # What stands where a port should, and is none, may be a password without its @.
            place = re.sub(r"(?s)^(\[[^\]]*\]|[^:]*):(?!\d{0,5}\Z).*", r"\1:***", place)
        master = r"([\w.-]+/?)?" if scheme.lower().endswith("+sentinel") else ""
        # Behind a place that is none, a path may be the second half of a password.
        if "***" in place or not re.fullmatch(rf"{master}\d{{0,9}}", path):
            path = path and "***"
        address = f"{place}{slash}{path}"
        address = re.sub(r"\s+\S.*", " ***", address)
    if question:
        query = "&".join(
            pair if re.fullmatch(r"db=\d{1,9}|", pair) else re.sub(r"^(\w+=|).*", r"\1***", pair)
            for pair in query.split("&")
        )
    return f"{scheme}{separator}{shown}{address}{question}{query}{sharp and '#***'}"


def masked_nodes(text: str) -> str:
    """Hosts with commas between them, each ``host:port``, with what may be secret as ``***``.

    A mistyped port is shown.
    """
    return masked(text) if "@" in text or "://" in text else _masked_nodes(text, _NEARLY_A_PORT)


def _masked_nodes(text: str, port: re.Pattern[str]) -> str:
    shown = []
    for item in text.split(","):
        host = re.match(r"\s*(\[[^\]]*\]|[^:/?#=\s]*)", item)
        known = host[0] if host else ""
        if not port.fullmatch(item, len(known)):
            shown.append(f"{known}:***")
            break  # what follows may be the rest of a password
        shown.append(item)
    return ",".join(shown)


def _decoded(text: str) -> str | None:
    try:
        return unquote(text, errors="strict") or None
    except UnicodeDecodeError:
        raise ValueError("its percent-encoding is not UTF-8") from None


def _nodes(place: str, default_port: int) -> Iterator[Address]:
    for item in place.split(","):
        if "," in place and not item:
            raise ValueError("names no host between two commas, or after the last")
        host, port = _host_and_port(item, default_port)
        yield Address(host, port)


def _host_and_port(place: str, default_port: int) -> tuple[str, int]:
    if not place:
        return DEFAULT_HOST, default_port
    host, port = split_address(place, default_port)
    return check_host(_decoded(host) or DEFAULT_HOST), port


def _database_in(query: str) -> int | None:
    found: set[int] = set()
    for pair in query.split("&") if query else ():
        name, equals, value = pair.partition("=")
        if name != "db":
            shown = name if equals and name.isidentifier() else "***"  # it may be a password
            raise ValueError(
                f"its parameter {shown!r} is unknown: only db is one, "
                "and every other setting has a variable of its own"
            )
        found.add(_database(value))
    if len(found) > 1:
        raise ValueError("names db more than once")
    return found.pop() if found else None


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 9):
        raise ValueError("its database must be a number, 0 or more")
    return int(text)
