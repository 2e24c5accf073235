"""Where each setting comes from, and which one counts when several speak.

This is the one place where precedence is decided:

1. A constructor's argument goes before the environment, and the environment before ``.env``,
   which before the defaults. ``.env`` only adds the variables that the environment lacks; from
   there on the two are one. An empty variable counts as not set.
2. A URL is one value. A ``url``, ``host``, ``port`` or ``nodes`` given to the constructor drops the
   environment's ``REDIS_URL`` whole, with the user, password and database in it, and what else the
   environment has of ``REDIS_HOST``, ``REDIS_PORT`` and ``REDIS_NODES``, but for the other half of
   host and port. So no password goes to a server that it was not meant for.
3. What the URL is silent about (user, password, database, TLS, mode, master) the separate settings
   fill in. Where both speak on the same level and differ, that is an error: nobody can know which
   was meant. A URL of one server without a host or port means ``localhost`` and 6379; one of many
   servers names a host. Host and port say one server, nodes say several: on one level there is
   either. A constructor's empty list of nodes is an error where nodes mean something.
4. ``rediss://`` and ``valkeys://`` are ``tls_enabled=True``; ``redis://`` is silent about it, and
   about the mode: ``redis+cluster://`` and ``redis+sentinel://`` say it.
5. A ``password`` or ``password_file`` from the constructor drops the environment's other one.
   ``tls_enabled=False``, or a URL to a Unix socket or a private server, in the constructor drops
   the environment's ``REDIS_TLS_*``. Such a URL, or another ``mode`` than the environment's, drops
   what means nothing to it: a URL of another mode, the nodes, ``REDIS_SENTINEL_*``, and for one
   server ``REDIS_READ_*`` and the address map. ``read_from="primary"`` drops ``REDIS_READ_*``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from redisutils.address import CLUSTER_PORT, SENTINEL_PORT, Address, addresses
from redisutils.url import DEFAULT_HOST, DEFAULT_PORT, ServerUrl, masked, masked_nodes, parse_url

__all__ = ["PREFIX", "Given", "Layer", "from_constructor", "from_environment", "merge", "nearest"]

PREFIX = "REDIS_"

_NOT_FIELDS = frozenset({"log"})  # REDIS_LOG is read by the command line alone

# What an orchestrator sets by itself for a service or container named redis or redis-something,
# and what the official server images set. None of it is meant for us.
_FOREIGN = re.compile(
    r"(\w+_)?(service_(host|port(_\w+)?)|port_\d+_(tcp|udp)(_\w+)?)"
    r"|(service|port|env)_\w+|version|download_(url|sha)"
)
# With more than one colon it is an IPv6 address, and with a / in front a socket's path.
_PIECE = re.compile(r"[^/:]+(:[^:]*|[/?#].*)", re.DOTALL)
_LINK = re.compile(r"(tcp|udp)://", re.IGNORECASE)

# Names from other clients that no likeness of letters would lead to ours.
_SYNONYMS = {
    "address_remap": "address_map",
    "auth": "password",
    "db": "database",
    "dsn": "url",
    "master": "sentinel_master",
    "master_name": "sentinel_master",
    "max_connections": "pool_max_size",
    "pass": "password",
    "pool_size": "pool_max_size",
    "read_from_replicas": "read_from",
    "sentinels": "nodes",
    "service_name": "sentinel_master",
    "socket_connect_timeout": "connection_timeout",
    "socket_timeout": "command_timeout",
    "ssl": "tls_enabled",
    "ssl_ca_certs": "tls_ca_path",
    "ssl_certfile": "tls_cert_path",
    "ssl_check_hostname": "tls_check_hostname",
    "ssl_keyfile": "tls_key_path",
    "startup_nodes": "nodes",
    "timeout": "command_timeout",
    "tls": "tls_enabled",
    "uri": "url",
    "user": "username",
}

_URL_PARTS = (
    "mode",
    "nodes",
    "sentinel_master",
    "host",
    "port",
    "username",
    "password",
    "database",
    "tls_enabled",
)
_PASSWORDS = frozenset({"password", "sentinel_password"})
_OF_MANY = ("mode", "nodes", "sentinel_", "read_", "address_map")
"""How the settings begin that mean nothing to one server."""


@dataclass(frozen=True, slots=True)
class Given:
    """A setting's value, and how the person who gave it would recognise it."""

    value: Any = field(repr=False)  # it may be a password
    name: str
    """``REDIS_PORT`` from a variable, ``port`` from the constructor."""
    shown: str = field(repr=False)
    """The value for a message: secrets are ``***``. Of a misspelt setting it may be one."""
    where: str = ""
    hidden: bool = False
    """Whether the value may be a secret: a URL's user without a password may be the password."""

    def __str__(self) -> str:
        return f"{self.name}={self.shown}{self.where}"


Layer = dict[str, Given]


def from_constructor(values: Mapping[str, Any]) -> Layer:
    """The layer of a constructor's arguments."""
    return {name: Given(value, name, _shown(name, value)) for name, value in values.items()}


def from_environment(
    environment: Mapping[str, str | None],
    dotenv: Mapping[str, str | None],
    fields: Collection[str],
    dotenv_name: str,
) -> tuple[Layer, dict[str, str]]:
    """The layer of the variables, and for each unknown variable the nearest right name or "".

    Both mappings have their names in lower case.
    """
    layer: Layer = {}
    unknown: dict[str, str] = {}
    for variables, where in ((dotenv, f" (in {dotenv_name})"), (environment, "")):
        for variable, value in variables.items():
            name = variable.removeprefix(PREFIX.lower())
            if name == variable or not value or name in _NOT_FIELDS:
                continue
            if name not in fields:
                if not _FOREIGN.fullmatch(name) and not _LINK.match(value):
                    near = nearest(name, fields)
                    unknown[variable.upper() + where] = near and PREFIX + near.upper()
            elif name == "port" and "port" in layer and _LINK.match(value):
                continue  # an orchestrator's REDIS_PORT does not displace a person's
            else:
                layer[name] = Given(value, variable.upper(), _shown(name, value), where)
    return layer, unknown


def merge(constructor: Layer, environment: Layer) -> tuple[Layer, ServerUrl | None, list[str]]:
    """Settle the two layers by the rules at the top of this file.

    Returns the settled layer with the URL's parts in their fields, the URL, and the problems.
    """
    problems: list[str] = []
    above = dict(constructor)
    url = _expand(above, problems)

    below = {name: given for name, given in environment.items() if name not in above}
    _drop_places(above, below)
    for one, other in (("password", "password_file"), ("password_file", "password")):
        if one in above and above[one].value:
            below.pop(other, None)
    no_tls = "tls_enabled" in above and _is_false(above["tls_enabled"].value)
    if no_tls or (url is not None and (url.path is not None or url.embedded)):
        below = _without(below, "tls_")
    if url is not None and (url.path is not None or url.embedded):
        below = _without(below, *_OF_MANY)
    below = _of_the_mode(above, below, environment.get("mode"))

    if "port" in below and _LINK.match(str(below["port"].value)):
        port = below.pop("port")
        if below.keys().isdisjoint(("url", "nodes")):
            problems.append(
                f"{port}: is not a port. Kubernetes and Docker set it for a service named redis; "
                "set REDIS_URL, or give the service another name, or turn its links off "
                "(enableServiceLinks: false)"
            )
    if "url" in below:
        url = _expand(below, problems, taken=above)
    problems += [*_two_places(above), *_two_places(below)]
    settled = below | above
    if "mode" in settled and _word(settled["mode"].value) in ("cluster", "sentinel"):
        problems += _nobody(constructor)
    return settled, url, problems


def _drop_places(above: Layer, below: Layer) -> None:
    """Of where the server is, the constructor's word stands alone."""
    if not above.keys().isdisjoint(("url", "host", "port", "nodes")):
        below.pop("url", None)
    if not above.keys().isdisjoint(("host", "port")):
        below.pop("nodes", None)
    if "nodes" in above and above["nodes"].value:
        below.pop("host", None)
        below.pop("port", None)


def _two_places(layer: Layer) -> Iterator[str]:
    nodes = layer.get("nodes")
    for part, default in (("host", DEFAULT_HOST), ("port", DEFAULT_PORT)):
        one = layer.get(part)
        if one and nodes and nodes.value and str(one.value) not in ("", str(default)):
            yield f"{one} contradicts {nodes}: set one of them"
            break


def _nobody(layer: Layer) -> Iterator[str]:
    """A list of nodes that came out empty would else be ``localhost``, which nobody meant."""
    nodes = layer.get("nodes")
    if nodes is None or not isinstance(nodes.value, Sequence) or isinstance(nodes.value, str):
        return
    if not nodes.value and layer.keys().isdisjoint(("url", "host", "port")):
        yield (
            f"nodes={nodes.value!r}: names no server to ask first; give one host:port or more, or "
            "leave nodes out for what REDIS_NODES, REDIS_HOST and REDIS_PORT say"
        )


def _of_the_mode(above: Layer, below: Layer, before: Given | None) -> Layer:
    """The environment's settings, whose mode was that of ``before``, without those that mean
    nothing in the constructor's."""
    if "read_from" in above and _word(above["read_from"].value) == "primary":
        below = _without(below, "read_")
    if "mode" not in above:
        return below
    mode = _word(above["mode"].value)
    url = below.get("url")
    scheme, _, _ = str(url.value).strip().partition("://") if url is not None else ("", "", "")
    of_url = scheme.lower().partition("+")[2]
    if of_url not in ("", mode):
        below = _without(below, "url")
    if before is not None and _word(before.value) != mode:
        below = _without(below, "nodes")
    if mode != "sentinel":
        below = _without(below, "sentinel_")
    return _without(below, *_OF_MANY) if mode == "standalone" else below


def _without(layer: Layer, *beginnings: str) -> Layer:
    return {name: given for name, given in layer.items() if not name.startswith(beginnings)}


def _word(value: Any) -> str:
    return str(value).strip().lower()


def nearest(name: str, fields: Collection[str]) -> str:
    """The field that was most likely meant by ``name``, or ""."""
    bare = name.lower().removeprefix(PREFIX.lower())
    synonym = _SYNONYMS.get(bare, "")
    if synonym in fields:
        return synonym
    import difflib  # which nobody needs who makes no mistake

    return next(iter(difflib.get_close_matches(bare, list(fields), n=1)), "")


def _expand(
    layer: Layer, problems: list[str], taken: Mapping[str, Given] = MappingProxyType({})
) -> ServerUrl | None:
    """Put the parts of the layer's URL into their fields, but for those that are ``taken``."""
    given = layer.get("url")
    if given is None or given.value in (None, ""):
        return None
    if not isinstance(given.value, str):
        problems.append(f"{given}: must be text")
        del layer["url"]
        return None
    try:
        url = parse_url(given.value.strip())
    except ValueError as error:
        problems.append(f"{given}: {error}")
        del layer["url"]
        return None
    for part in _URL_PARTS:
        value = getattr(url, part)
        if value is None or part in taken:
            continue
        if part == "password" and "password_file" in taken and taken["password_file"].value:
            continue
        other = layer.get(part)
        if other is None or other.value is None:
            hidden = part == "username" and url.password is None
            layer[part] = Given(value, given.name, given.shown, given.where, hidden)
        elif _plain(part, other.value, url) != _plain(part, value, url):
            problems.append(f"{other} contradicts {given}: set one of them, or both alike")
    layer["url"] = Given(url.place, given.name, given.shown, given.where)
    return url


def _plain(part: str, value: Any, url: ServerUrl) -> str:
    """``value`` in the form in which two ways to say the same as ``url`` are equal."""
    reveal: Callable[[], str] | None = getattr(value, "get_secret_value", None)
    text = reveal() if reveal is not None else str(value)
    if part == "tls_enabled":
        return str(not _is_false(value))
    if part == "host":
        return text.strip().strip("[]").lower()
    if part == "mode":
        return _word(text)
    if part == "nodes":
        try:
            nodes = addresses(value, SENTINEL_PORT if url.mode == "sentinel" else CLUSTER_PORT)
        except ValueError:
            return text
        return ",".join(sorted(str(node).lower() for node in nodes))
    if part in ("port", "database"):
        return text.strip().lstrip("0") or "0"
    return text


def _is_false(value: Any) -> bool:
    return str(value).strip().lower() in ("false", "0", "no", "off", "f", "n")


def _shown(name: str, value: Any) -> str:
    if name in _PASSWORDS:
        return "***" if value is not None else "None"
    if name in ("nodes", "address_map"):
        text = _shown_addresses(name, value)
    else:
        text = str(value)
        # A URL in the wrong place, or a piece of one, has its password with it.
        piece = name == "host" and _PIECE.fullmatch(text)
        if name == "url" or "://" in text or "@" in text or piece:
            text = masked(text)
    if not text.isprintable() or text != text.strip():
        text = repr(text)
    return text if len(text) <= 120 else text[:117] + "..."


def _shown_addresses(name: str, value: Any) -> str:
    """As a variable would have them."""
    if isinstance(value, Mapping):
        value = [*value.items()]
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        value = ",".join(map(_shown_address, value))
    elif not isinstance(value, str):
        return "***" if value is not None else "None"
    if name == "nodes" or "@" in value:
        return masked_nodes(value)
    return ",".join("=".join(map(masked_nodes, item.split("="))) for item in value.split(","))


def _shown_address(item: Any) -> str:
    match item:
        case (str() as host, int() as port):
            return str(Address(host, port))
        case (one, other):
            return f"{_shown_address(one)}={_shown_address(other)}"
    return str(item)
