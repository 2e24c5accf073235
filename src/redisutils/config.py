"""RedisConfig: every setting, checked as a whole.

pydantic is heavy to import, so the package imports this module only when a
:class:`RedisConfig` is wanted.
"""

from __future__ import annotations

import logging
import warnings
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, TypedDict, Unpack

from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from redisutils.address import SENTINEL_PORT, Address, AddressesLike, AddressMapLike
from redisutils.config_checks import cross_checks
from redisutils.errors import ConfigError
from redisutils.password_file import read_password
from redisutils.secret import hidden
from redisutils.settings import PREFIX, Given, Layer, from_constructor, merge, nearest
from redisutils.url import DEFAULT_HOST, DEFAULT_PORT, ServerUrl, parse_url
from redisutils.values import (
    AddressPairs,
    ClientName,
    Host,
    Master,
    Nodes,
    OptionalPath,
    OptionalSecret,
    OptionalText,
    OptionalUser,
    complaint,
    described,
    in_any_case,
    number,
)
from redisutils.variables import DOTENV, variables

__all__ = ["ConfigArgs", "RedisConfig", "Sources", "allowed", "sources"]

_log = logging.getLogger("redisutils.config")

_MOST_SHOWN: Final = 3
"""Of many servers, in messages."""


class ConfigArgs(TypedDict, total=False):
    """The arguments of :class:`RedisConfig`, for functions that pass them on."""

    url: str | None
    host: str
    port: int
    username: str | None
    password: str | SecretStr | None
    password_file: str | Path | None
    database: int
    mode: Literal["standalone", "sentinel", "cluster"]
    nodes: AddressesLike
    sentinel_master: str | None
    sentinel_username: str | None
    sentinel_password: str | SecretStr | None
    address_map: AddressMapLike
    read_from: Literal["primary", "replica", "prefer-replica", "nearest"]
    read_max_lag_seconds: float | None
    read_zone: str | None
    read_own_writes_seconds: float
    read_hedge: float
    pool_max_size: int
    pool_min_idle: int
    pool_max_idle_seconds: float | None
    pool_max_lifetime_seconds: float | None
    pool_timeout: float | None
    connection_timeout: float
    command_timeout: float
    tls_enabled: bool
    tls_cert_path: str | Path | None
    tls_key_path: str | Path | None
    tls_ca_path: str | Path | None
    tls_check_hostname: bool
    max_retries: int
    retry: Literal["safe", "never", "always"]
    retry_delay_ms: int
    retry_max_delay_ms: int
    health_check_interval: float
    circuit_breaker_seconds: float
    slow_log_keys: Literal["hash", "plain"]
    client_name: str


class RedisConfig(BaseSettings):
    """How to reach a server and how to treat it. Immutable, and never prints a secret.

    Each field is also an environment variable, in capitals and with ``REDIS_`` before it, read
    from the environment and from ``.env`` in the working directory. The constructor goes before
    the environment, the environment before ``.env``, and ``.env`` before the defaults;
    :mod:`redisutils.settings` has the rules for a URL that meets the separate settings.

    Args:
        _env_file: another file in place of ``.env``, which must exist; None reads none.
        **values: the fields.

    Raises:
        ConfigError: with every wrong setting by name, its value (secrets as ``***``) and what is
            allowed; for an unknown argument; and for a file of variables that cannot be read.

    Warns:
        UserWarning: once, when the environment holds ``REDIS_`` variables that are no settings.
    """

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=DOTENV,
        env_file_encoding="utf-8-sig",  # UTF-8, and a byte order mark is no part of a name
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    url: OptionalText = None
    """``redis://``, ``rediss://``, ``unix://``, ``valkey://``, ``valkeys://`` or ``embedded://``;
    ``redis+cluster://host:port,host:port/database`` and
    ``redis+sentinel://host:port,host:port/master/database`` for many servers, the same with rediss,
    valkey and valkeys; what is special in user name and password is percent-encoded.

    Its parts go into the fields below; what stays here is scheme and place.
    """
    host: Host = DEFAULT_HOST
    """A name, an IPv4 or an IPv6 address."""
    port: Annotated[int, number(1, 65_535, whole=True)] = DEFAULT_PORT
    """The server's port; 26379 when not set and the host is a sentinel."""
    username: OptionalUser = None
    """The ACL user; not set for the server's default user."""
    password: OptionalSecret = None
    """The user's password; this or ``password_file``."""
    password_file: OptionalPath = None
    """A file with the password, read again at each connect, so that it can be rotated."""
    database: Annotated[int, number(0, 2**31 - 1, whole=True)] = 0
    """The number of the database. Of a cluster, servers before Valkey 9 have 0 alone."""

    mode: Annotated[Literal["standalone", "sentinel", "cluster"], in_any_case] = "standalone"
    """One server; one that sentinels watch over; or a cluster. ``redis+sentinel://`` and
    ``redis+cluster://`` set it."""
    nodes: Nodes = ()
    """The sentinels, or nodes of the cluster, to ask first; they know the others. A port that is
    left out is 26379 or 6379; an IPv6 address stands in brackets. Without it, ``host`` and
    ``port`` are the one to ask."""
    sentinel_master: Master = None
    """The name under which the sentinels know the primary."""
    sentinel_username: OptionalUser = None
    """The ACL user at the sentinels; ``username`` and ``password`` are for the servers."""
    sentinel_password: OptionalSecret = None
    """The password at the sentinels, where they want one."""
    address_map: AddressPairs = ()
    """For NAT and containers: where the addresses that sentinels and nodes announce are reached
    from here. What is not in it is taken as it is."""
    read_from: Annotated[
        Literal["primary", "replica", "prefer-replica", "nearest"], in_any_case
    ] = "primary"
    """Where commands that only read are sent: the primary; a replica; a replica while there is one
    that can answer; or whichever answers soonest."""
    read_max_lag_seconds: Annotated[float | None, number(0, above=True, off=None)] = None
    """Seconds that a replica may be behind its primary to be read from; None, or "off", for any."""
    read_zone: OptionalText = None
    """The availability zone whose replicas are preferred, where servers tell theirs."""
    read_own_writes_seconds: Annotated[float, number(0, off=0.0)] = 0.0
    """Seconds after a write to a slot in which a client reads of it from the primary; 0, or "off",
    for none."""
    read_hedge: Annotated[float, number(0, 1)] = 0.0
    """The share of reads, 0 to 1, that may be asked of a second replica as well when the first has
    not answered within the p95."""

    pool_max_size: Annotated[int, number(1, 10_000, whole=True)] = 10
    """Connections at most, lanes included."""
    pool_min_idle: Annotated[int, number(0, 10_000, whole=True)] = 0
    """Idle connections that are kept ready."""
    pool_max_idle_seconds: Annotated[float | None, number(0, above=True, off=None)] = None
    """Seconds after which an idle connection is closed; None, or "off", for never."""
    pool_max_lifetime_seconds: Annotated[float | None, number(0, above=True, off=None)] = None
    """Seconds after which a connection is replaced, idle or not; None, or "off", for never."""
    pool_timeout: Annotated[float | None, number(0, off=None)] = None
    """Seconds to wait for a connection; 0 tries once; None, or "off", for the command timeout."""
    connection_timeout: Annotated[float, number(0, above=True)] = 30.0
    """Seconds for connect, TLS and handshake together."""
    command_timeout: Annotated[float, number(0, above=True)] = 10.0
    """Seconds for a command, from the call to its reply, with everything in between."""

    tls_enabled: Annotated[bool, in_any_case] = False
    """Speak TLS 1.2 or newer; ``rediss://`` and ``valkeys://`` set it."""
    tls_cert_path: OptionalPath = None
    """This client's certificate, PEM; with ``tls_key_path``, for mutual TLS."""
    tls_key_path: OptionalPath = None
    """The key of this certificate, PEM, without a password."""
    tls_ca_path: OptionalPath = None
    """Authorities to trust, PEM; the system's when not given."""
    tls_check_hostname: Annotated[bool, in_any_case] = True
    """Whether the server's certificate must name the host."""

    max_retries: Annotated[int, number(0, 1_000, whole=True)] = 5
    """How often a command may be repeated, within its budget."""
    retry: Annotated[Literal["safe", "never", "always"], in_any_case] = "safe"
    """What is repeated: "safe", what cannot take effect twice; "always", everything; "never",
    nothing."""
    retry_delay_ms: Annotated[int, number(0, 3_600_000, whole=True)] = 100
    """Milliseconds of the first pause before a repetition; it doubles each time."""
    retry_max_delay_ms: Annotated[int, number(0, 3_600_000, whole=True)] = 5_000
    """Milliseconds that no such pause exceeds."""
    health_check_interval: Annotated[float, number(0, off=0.0)] = 30.0
    """Seconds between PINGs of an idle connection; 0, or "off", for none."""
    circuit_breaker_seconds: Annotated[float, number(0, off=0.0)] = 5.0
    """Seconds after which a server that cannot be reached and of which nothing is heard counts as
    dead: calls that need a connection fail at once until it is back. 0, or "off", for never."""
    slow_log_keys: Annotated[Literal["hash", "plain"], in_any_case] = "hash"
    """Whether the log of slow commands shows keys ("plain") or hashes of them."""
    client_name: ClientName = "redisutils"
    """What CLIENT LIST shows.

    "" for nothing.
    """

    def __init__(
        self, *, _env_file: str | Path | None = DOTENV, **values: Unpack[ConfigArgs]
    ) -> None:
        given = from_constructor(values)
        del values  # a frame's locals are shown by trackers of errors
        read, unknown = variables(type(self), _env_file)
        self._settle(given, read)
        if unknown:
            hints = [f"{name} (did you mean {near}?)" if near else name for name, near in unknown]
            message = f"no setting of redisutils, ignored: {', '.join(hints)}"
            _log.warning(message)
            warnings.warn(message, UserWarning, stacklevel=2)

    def replace(self, **changes: Unpack[ConfigArgs]) -> Self:
        """A checked copy with ``changes``; neither the environment nor ``.env`` is read again.

        All else is kept, also the user and password that came with a URL: a new ``host`` gets
        the same ones.

        Raises:
            ConfigError: as the constructor does.
        """
        changed = from_constructor(changes)
        del changes  # as in the constructor
        kept = {name: getattr(self, name) for name in self.model_fields_set}
        copy = type(self).__new__(type(self))
        copy._settle(changed, from_constructor(kept))
        return copy

    def __setattr__(self, name: str, value: object) -> None:
        # pydantic's own error would show the value, which may be a password.
        raise AttributeError(f"RedisConfig is immutable: replace({name}=...) makes a changed copy")

    def _settle(self, constructor: Layer, environment: Layer) -> None:
        fields = type(self).model_fields
        problems = []
        for name in sorted(constructor.keys() - fields.keys()):
            near = nearest(name, fields)
            hint = f": did you mean {near}?" if near else ""
            problems.append(f"{name}: there is no such setting{hint}")
        given, url, found = merge(
            {name: value for name, value in constructor.items() if name in fields}, environment
        )
        problems += found
        wrong = {"url"} if found else set()
        try:
            self._fill({name: one.value for name, one in given.items()})
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                name = str(detail["loc"][0])
                problems.append(f"{given[name]}: {complaint(detail)}")
                wrong.add(name)
            # Without them the rest can still be checked against each other.
            self._fill({name: one.value for name, one in given.items() if name not in wrong})
        problems += cross_checks(dict(self), given, url, wrong)
        if problems:
            many = f"{len(problems)} settings are wrong:\n  " if len(problems) > 1 else ""
            # "from None": pydantic's error would show the values, secrets among them.
            raise ConfigError(many + "\n  ".join(problems)) from None

    def _fill(self, values: dict[str, Any]) -> None:
        """Check each value by itself. The port of a sentinel has a default of its own."""
        sentinel = str(values.get("mode")).strip().lower() == "sentinel"
        if sentinel and not values.get("nodes"):
            super().__init__(_env_file=None, **{"port": SENTINEL_PORT} | values)
            if "port" not in values:
                self.model_fields_set.discard("port")
        else:
            super().__init__(_env_file=None, **values)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The constructor alone: the other sources are merged into it before, by rules that need
        to know where each value came from, which pydantic-settings forgets."""
        return (init_settings,)

    @property
    def _server(self) -> ServerUrl | None:
        return parse_url(self.url) if self.url else None

    @property
    def unix_socket_path(self) -> str | None:
        """The socket of a ``unix://`` URL, else None."""
        server = self._server
        return server.path if server else None

    @property
    def embedded(self) -> bool:
        """Whether a private server is wanted, by ``embedded://``."""
        server = self._server
        return server is not None and server.embedded

    @property
    def tls(self) -> bool:
        """Whether to speak TLS: the same as ``tls_enabled``."""
        return self.tls_enabled

    @property
    def seeds(self) -> tuple[Address, ...]:
        """Where to begin: ``nodes``, or ``host`` and ``port``."""
        return self.nodes or (Address(self.host, self.port),)

    @property
    def endpoint(self) -> str:
        """The server for a message: ``host:port`` or a socket's path; no secrets. Of many, what
        they are and the first of them."""
        if self.mode != "standalone":
            few = ", ".join(map(str, self.seeds[:_MOST_SHOWN]))
            more = ", …" if len(self.seeds) > _MOST_SHOWN else ""
            if self.mode == "cluster":
                return f"the cluster of {few}{more}"
            return f"{self.sentinel_master} at sentinels {few}{more}"
        if self.embedded:
            return "embedded server"
        if self.unix_socket_path:  # as ConnectOptions.peer says it
            return self.unix_socket_path.encode(errors="backslashreplace").decode()
        return str(Address(self.host, self.port))

    @property
    def wait_timeout(self) -> float:
        """Seconds to wait for a connection: ``pool_timeout``, or the command's when not set."""
        return self.command_timeout if self.pool_timeout is None else self.pool_timeout

    def current_password(self) -> str | None:
        """The password as of now: ``password_file`` is read anew, less one newline at its end.

        Raises:
            ConfigError: the file cannot be read, is empty, no regular file, larger than 64 KiB
                or not UTF-8.
        """
        if self.password_file is None:
            return hidden(self.password.get_secret_value()) if self.password else None
        return read_password(self.password_file)


class Sources(NamedTuple):
    """Where the settings of a ``RedisConfig()`` come from."""

    given: dict[str, Given]
    """By field, those that are not left at their default; a URL's parts are in theirs."""
    unknown: list[tuple[str, str]]
    """Variables that are no settings, and for each the nearest right name or ""."""


def sources(env_file: str | Path | None = DOTENV, **values: Unpack[ConfigArgs]) -> Sources:
    """Where each setting comes from, by the rules of :mod:`redisutils.settings`.

    Wrong values are no trouble here: ``RedisConfig()`` names them.

    Args:
        env_file: as the constructor's ``_env_file``.
        **values: as the constructor's.

    Raises:
        ConfigError: the file cannot be read.
    """
    layer, unknown = variables(RedisConfig, env_file)
    given, _, _ = merge(from_constructor(values), layer)
    return Sources(given, unknown)


def allowed(name: str) -> str:
    """What the setting may be, in words: ``a whole number between 1 and 10,000``."""
    return described(RedisConfig.model_fields[name])
