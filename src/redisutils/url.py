"""Server URLs: taken apart, and shown without their secrets.

Accepted, with everything percent-decoded::

    redis://[[user]:password@]host[:port][/database][?db=N]     valkey:// is the same
    rediss://...                                                the same over TLS; so is valkeys://
    unix://[[user]:password@]/path/to/socket[?db=N]
    embedded://[/database][?db=N]                               a private server

redis-py's parser is not used: it reads connection arguments from the query,
and takes an unknown one in silence.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

__all__ = [
    "DEFAULT_HOST",
    "DEFAULT_PORT",
    "SCHEMES",
    "ServerUrl",
    "check_host",
    "masked",
    "parse_url",
]

DEFAULT_HOST = "localhost"
DEFAULT_PORT = 6379

_TLS_SCHEMES = frozenset({"rediss", "valkeys"})
SCHEMES = ("redis", "rediss", "unix", "valkey", "valkeys", "embedded")


@dataclass(frozen=True, slots=True)
class ServerUrl:
    """What a URL says. None where it is silent."""

    scheme: str
    host: str = DEFAULT_HOST
    port: int = DEFAULT_PORT
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int | None = None
    path: str | None = None
    """The socket of a ``unix://`` URL."""
    place: str = ""
    """The URL as it was written, less user, password and database."""

    @property
    def tls_enabled(self) -> bool | None:
        """True when the scheme asks for TLS, else None: it is silent about it."""
        return True if self.scheme in _TLS_SCHEMES else None

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
        raise ValueError(f"must begin with {', '.join(f'{name}://' for name in SCHEMES)}")
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
    in_path = _database(path) if path else None
    if in_path is not None and in_query is not None and in_path != in_query:
        raise ValueError(f"names two databases: /{in_path} and ?db={in_query}")
    database = in_path if in_path is not None else in_query
    if scheme == "embedded":
        if authority:
            raise ValueError("embedded:// takes no host, user or password")
        return ServerUrl(scheme, database=database, place=f"{scheme}://")
    host, port = _host_and_port(place)
    return ServerUrl(scheme, host, port, username, password, database, place=f"{scheme}://{place}")


def check_host(host: str) -> str:
    """``host`` as a socket takes it: a name, an IPv4 or an IPv6 address without brackets.

    Raises ``ValueError`` when it is something else, such as a URL or ``host:port``.
    """
    if "://" in host:
        raise ValueError("must be a host alone: a URL belongs into REDIS_URL")
    if "/" in host:
        raise ValueError("must be a host alone: for a Unix socket set REDIS_URL=unix:///path")
    if not host or any(char <= " " or char in "@?#\x7f" for char in host):
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
        # What stands where a port should, and is none, may be a password without its @.
        address = re.sub(r"^(\[[^\]]*\]|[^:/]*):(?!\d{0,5}(?:/|$))[^/]*", r"\1:***", address)
        address = re.sub(r"/(?!\d{0,9}$).*", "/***", address)
        address = re.sub(r"\s+\S.*", " ***", address)
    if question:
        query = "&".join(
            pair if re.fullmatch(r"db=\d{1,9}|", pair) else re.sub(r"^(\w+=|).*", r"\1***", pair)
            for pair in query.split("&")
        )
    return f"{scheme}{separator}{shown}{address}{question}{query}{sharp and '#***'}"


def _decoded(text: str) -> str | None:
    try:
        return unquote(text, errors="strict") or None
    except UnicodeDecodeError:
        raise ValueError("its percent-encoding is not UTF-8") from None


def _host_and_port(place: str) -> tuple[str, int]:
    if not place:
        return DEFAULT_HOST, DEFAULT_PORT
    if place.startswith("["):
        host, bracket, after = place[1:].partition("]")
        if not bracket or (after and not after.startswith(":")):
            raise ValueError("an IPv6 address is written in brackets: redis://[::1]:6379")
        host, colon, port = f"[{host}]", after[:1], after[1:]
    else:
        host, colon, port = place.partition(":")
        if ":" in port:
            raise ValueError("an IPv6 address is written in brackets: redis://[::1]:6379")
    number = DEFAULT_PORT
    if colon:
        if not (port.isascii() and port.isdigit() and 1 <= int(port[:6]) <= 65_535):
            raise ValueError("its port must be between 1 and 65,535")
        number = int(port)
    return check_host(_decoded(host) or DEFAULT_HOST), number


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
