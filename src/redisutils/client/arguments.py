"""redis-py's constructor arguments, in our terms, and the way back.

``redis.asyncio.Redis(…)``, ``Redis.from_url(…)`` and redis-py's connection pools all describe
a connection by the same keyword arguments. What means something here is translated; what
does not is refused by name, so that nobody relies on what does not happen.
"""

from __future__ import annotations

import os
import ssl
import warnings
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, Final, get_args

from redis.asyncio.connection import RedisSSLContext, parse_url
from redis.credentials import UsernamePasswordCredentialProvider
from redis.driver_info import DriverInfo, resolve_driver_info
from redis.utils import SENTINEL

from redisutils.client.plans import ARGUMENTS
from redisutils.connection.options import ConnectOptions, Credentials
from redisutils.connection.tls import Renewed
from redisutils.errors import ConfigError
from redisutils.files import irregular
from redisutils.pool.pool import Timeouts
from redisutils.pool.settings import PoolSettings
from redisutils.retry import Backoff, RetryMode, RetryPolicy
from redisutils.secret import hide
from redisutils.url import masked
from redisutils.url import parse_url as parse_server_url
from redisutils.version import VERSION

__all__ = [
    "LIBRARY",
    "connect_options",
    "kwargs_from_url",
    "pool_settings",
    "positive",
    "redis_py_kwargs",
    "refuse_unknown",
]

LIBRARY: Final = ("redisutils", VERSION)

_DEFAULT_TIMEOUT: Final = 5.0
"""redis-py's own, for connecting and for each command."""

_MAX_CONNECTIONS: Final = 100
"""redis-py's own default."""

_UNDERSTOOD: Final = frozenset(
    """host port path unix_socket_path db username password credential_provider client_name
    socket_timeout socket_connect_timeout socket_keepalive socket_keepalive_options
    socket_read_size encoding encoding_errors decode_responses retry max_connections timeout
    health_check_interval lib_name lib_version driver_info protocol legacy_responses
    event_dispatcher ssl ssl_context ssl_keyfile ssl_certfile ssl_cert_reqs
    ssl_include_verify_flags ssl_exclude_verify_flags ssl_ca_certs ssl_ca_data ssl_ca_path
    ssl_check_hostname ssl_min_version ssl_ciphers ssl_password connection_class
    encoder_class parser_class himport_registry retry_mode
    circuit_breaker_seconds""".split()
).union(ARGUMENTS)

_REFUSED: Final[dict[str, str]] = {
    "retry_on_timeout": (
        "it would send commands again that may have taken effect; what may be repeated safely "
        "is repeated by itself (retry_mode='safe'), and retry_mode='always' is for the rest"
    ),
    "retry_on_error": (
        "it would send commands again that may have taken effect; refusals that pass "
        "(LOADING, READONLY, …) are repeated by themselves"
    ),
    "redis_connect_func": "connections set themselves up; use a post_create hook of the pool",
    "maint_notifications_config": "maintenance notifications are not supported",
}


_HARMLESS: Final = ("Redis URL must", "Invalid value for")
"""How redis-py's errors about a URL begin that repeat nothing of it."""


def refuse_unknown(kwargs: Mapping[str, Any]) -> None:
    """Raise for arguments that mean nothing here.

    Raises:
        ConfigError: an argument of redis-py's that cannot be honoured.
        TypeError: one that nobody knows.
    """
    for name, why in _REFUSED.items():
        value = kwargs.get(name)
        if value and value is not SENTINEL and getattr(value, "enabled", True):
            raise ConfigError(f"{name}={value!r} cannot be honoured: {why}")
    for name in kwargs:
        if name not in _UNDERSTOOD and name not in _REFUSED:
            raise TypeError(f"Redis() got an unexpected keyword argument {name!r}")


def kwargs_from_url(url: str) -> dict[str, Any]:
    """The arguments in a URL: ``redis://``, ``rediss://``, ``unix://``, ``valkey://``, ``valkeys://``,
    ``redis+sentinel://``, ``redis+cluster://``, and these two with the others' names.

    Raises:
        ValueError: it is none of these.
    """
    scheme = url.partition("://")[0]
    wrong = ""
    try:
        if "+" in scheme:
            return dict(hide(_many_from_url(url)))
        # A query argument wins over the path, as in redis-py: its own parser says so.
        return dict(hide(parse_url(scheme.replace("valkey", "redis") + url[len(scheme) :])))
    except ValueError as error:
        wrong = str(error)
    # Outside: the parsers' frames hold the URL. Their words may repeat what stands where a port
    # should, which may be a password that is not percent-encoded.
    if "+" in scheme:
        wrong = f"the URL {masked(url)}: {wrong}"
    elif not wrong.startswith(_HARMLESS):
        wrong = "cannot be taken apart: percent-encode what is special in user name and password"
        wrong = f"the Redis URL {masked(url)} {wrong}"
    raise ValueError(wrong)


def _many_from_url(url: str) -> dict[str, Any]:
    """Of many servers; what stands in the query is redis-py's, and read by it.

    Raises:
        ValueError: not such a URL; the message does not hold it.
    """
    address, question, query = url.partition("?")
    server = parse_server_url(address)
    nodes = server.nodes or ()
    found = {
        "mode": server.mode,
        "host": nodes[0].host,
        "port": nodes[0].port,
        "nodes": nodes,
        "sentinel_master": server.sentinel_master,
        "username": server.username,
        "password": server.password,
        "db": server.database,
    }
    scheme = "rediss" if server.tls_enabled else "redis"
    more = parse_url(f"{scheme}://{question}{query}")
    return {name: value for name, value in found.items() if value is not None} | dict(more)


def connect_options(kwargs: Mapping[str, Any]) -> ConnectOptions:
    """How to connect, from redis-py's arguments."""
    connect_timeout = kwargs.get("socket_connect_timeout", _DEFAULT_TIMEOUT)
    if connect_timeout is None:
        connect_timeout = kwargs.get("socket_timeout")
    path = kwargs.get("unix_socket_path") or kwargs.get("path")
    keepalive_options = kwargs.get("socket_keepalive_options", SENTINEL)
    return ConnectOptions(
        host=kwargs.get("host", "localhost"),
        port=int(kwargs.get("port", 6379)),
        path=path,
        database=int(kwargs.get("db") or 0),
        credentials=_credentials(kwargs),
        client_name=kwargs.get("client_name"),
        timeout=inf
        if connect_timeout is None
        else positive("socket_connect_timeout", connect_timeout),
        tls=None if path else _tls(kwargs),
        protocol=_protocol(kwargs.get("protocol")),
        encoding=kwargs.get("encoding", "utf-8"),
        encoding_errors=kwargs.get("encoding_errors", "strict"),
        keepalive=bool(kwargs.get("socket_keepalive", True)),
        keepalive_options=None if keepalive_options is SENTINEL else keepalive_options or {},
        library=_library(kwargs),
    )


def pool_settings(kwargs: Mapping[str, Any]) -> PoolSettings:
    """The pool's figures, from redis-py's arguments."""
    timeout = kwargs.get("socket_timeout", _DEFAULT_TIMEOUT)
    budget = inf if timeout is None else positive("socket_timeout", timeout)
    wait = kwargs.get("timeout", budget)  # BlockingConnectionPool's
    return PoolSettings(
        max_size=int(kwargs.get("max_connections") or _MAX_CONNECTIONS),
        timeouts=Timeouts(wait=inf if wait is None else float(wait), recycle=budget),
        command_timeout=budget,
        retry=_policy(kwargs),
        health_check_interval=kwargs.get("health_check_interval") or inf,
        circuit_breaker=_circuit_breaker(kwargs),
    )


def redis_py_kwargs(options: ConnectOptions, settings: PoolSettings) -> dict[str, Any]:
    """redis-py's names for what people read from ``connection_pool.connection_kwargs``."""
    place: dict[str, Any] = (
        {"path": options.path}
        if options.path is not None
        else {"host": options.host, "port": options.port}
    )
    return place | {
        "db": options.database,
        "client_name": options.client_name,
        "encoding": options.encoding,
        "encoding_errors": options.encoding_errors,
        "socket_timeout": settings.command_timeout,
        "socket_connect_timeout": options.timeout,
    }


def _circuit_breaker(kwargs: Mapping[str, Any]) -> float:
    given = kwargs.get("circuit_breaker_seconds", PoolSettings().circuit_breaker)
    if given is None or str(given) in {"0", "0.0"}:
        return inf
    return positive("circuit_breaker_seconds", given)


def positive(name: str, value: Any) -> float:
    """``value`` as a number of seconds.

    Raises:
        ConfigError: it is none, or not above 0.
    """
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = -1.0
    if not number > 0:
        raise ConfigError(f"{name}={value!r} must be a number of seconds greater than 0, or None")
    return number


def _protocol(value: Any) -> int:
    if value is None:
        return 3  # RESP3 on the wire; the response callbacks keep RESP2's shapes, as in redis-py
    try:
        number = int(value)
    except (TypeError, ValueError):
        number = 0
    if number not in (2, 3):
        raise ConfigError(f"protocol={value!r} must be 2 or 3")
    return number


def _credentials(kwargs: Mapping[str, Any]) -> Credentials:
    provider = kwargs.get("credential_provider")
    username, password = kwargs.get("username"), kwargs.get("password")
    if provider is not None and (username or password):
        raise ConfigError(
            "'username' and 'password' cannot be passed along with 'credential_provider': "
            "choose one"
        )
    if provider is None:
        if not (username or password):
            provider = None
        else:
            provider = UsernamePasswordCredentialProvider(username, password)

    async def ask() -> tuple[str, ...]:
        if provider is None:
            return ()
        return tuple(await provider.get_credentials_async())

    return ask


def driver_info(kwargs: Mapping[str, Any]) -> DriverInfo | None:
    """What CLIENT SETINFO is to say, from the three arguments that redis-py has for it."""
    name = kwargs.get("lib_name", SENTINEL)
    number = kwargs.get("lib_version", SENTINEL)
    if name is not SENTINEL or number is not SENTINEL:
        warnings.warn(
            "lib_name and lib_version are deprecated, as they are in redis-py: use driver_info",
            DeprecationWarning,
            stacklevel=2,
        )
    return resolve_driver_info(kwargs.get("driver_info", SENTINEL), name, number)


def _library(kwargs: Mapping[str, Any]) -> tuple[str, str] | None:
    if "driver_info" not in kwargs:
        return LIBRARY
    info: DriverInfo | None = kwargs["driver_info"]
    if info is None:
        return None
    return str(info.formatted_name or ""), str(info.lib_version or "")


def _policy(kwargs: Mapping[str, Any]) -> RetryPolicy:
    mode: RetryMode = kwargs.get("retry_mode") or "safe"
    if mode not in get_args(RetryMode):
        raise ConfigError(f"retry_mode={mode!r} must be one of {', '.join(get_args(RetryMode))}")
    retry = kwargs.get("retry")
    if retry is None:
        return RetryPolicy(mode, 5, Backoff(0.1, 5.0))
    # redis-py's backoffs do not tell their figures in public; those that have none wait not at all.
    backoff = getattr(retry, "_backoff", None)
    base = float(getattr(backoff, "_base", getattr(backoff, "_backoff", 0.0)))
    cap = float(getattr(backoff, "_cap", base))
    retries = retry.get_retries()
    return RetryPolicy(mode, retries if retries >= 0 else 1_000_000, Backoff(base, cap))


def _tls(kwargs: Mapping[str, Any]) -> Callable[[], ssl.SSLContext] | None:
    context = kwargs.get("ssl_context")
    if context is not None:
        return lambda: context
    connection_class = kwargs.get("connection_class")
    if not (kwargs.get("ssl") or getattr(connection_class, "__name__", "") == "SSLConnection"):
        return None
    wanted = {
        name.removeprefix("ssl_"): value
        for name, value in kwargs.items()
        if name.startswith("ssl_") and name != "ssl_context"
    }
    wanted["min_version"] = wanted.get("min_version") or ssl.TLSVersion.TLSv1_2
    names = (
        "keyfile certfile cert_reqs include_verify_flags exclude_verify_flags ca_certs ca_data "
        "ca_path check_hostname min_version ciphers password"
    ).split()
    defaults: dict[str, Any] = {"cert_reqs": "required", "check_hostname": True}
    arguments: dict[str, Any] = {name: wanted.get(name, defaults.get(name)) for name in names}
    # Without a password OpenSSL asks for one at the terminal, and the loop waits.
    arguments["password"] = arguments["password"] or ""
    maker = RedisSSLContext(**arguments)
    files = ("certfile", "keyfile", "ca_certs", "ca_path")
    regular = {name: wanted[name] for name in files[:3] if wanted.get(name)}
    named = ", ".join(f"ssl_{name}={wanted[name]!r}" for name in files if wanted.get(name))

    def load() -> ssl.SSLContext:
        for name, path in regular.items():
            if os.path.exists(path) and (wrong := irregular(os.stat(path))):
                raise ConfigError(f"ssl_{name}={path!r}: {wrong}")
        maker.context = None  # which it would give again
        try:
            return maker.get()
        except (OSError, ssl.SSLError) as error:
            what = named or "ssl_ca_data or ssl_ciphers"
            raise ConfigError(f"{what}: not what TLS can use ({error})") from None

    return Renewed(load, *(wanted.get(name) for name in files))
