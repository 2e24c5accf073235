"""RedisConfig: every setting, checked as a whole.

pydantic is heavy to import, so the package imports this module only when a
:class:`RedisConfig` is wanted.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, Self, TypedDict, Unpack

from pydantic import SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    DotEnvSettingsSource,
    EnvSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from redisutils.errors import ConfigError
from redisutils.files import is_pipe, piped_variables
from redisutils.password_file import read_password
from redisutils.secret import hidden
from redisutils.settings import (
    PREFIX,
    Given,
    Layer,
    from_constructor,
    from_environment,
    merge,
    nearest,
)
from redisutils.url import DEFAULT_HOST, DEFAULT_PORT, ServerUrl, parse_url
from redisutils.values import (
    ClientName,
    Host,
    OptionalPath,
    OptionalSecret,
    OptionalText,
    OptionalUser,
    complaint,
    described,
    in_any_case,
    number,
)

__all__ = ["ConfigArgs", "RedisConfig", "Sources", "allowed", "sources"]

_log = logging.getLogger("redisutils.config")

_DOTENV = ".env"


class ConfigArgs(TypedDict, total=False):
    """The arguments of :class:`RedisConfig`, for functions that pass them on."""

    url: str | None
    host: str
    port: int
    username: str | None
    password: str | SecretStr | None
    password_file: str | Path | None
    database: int
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
        env_file=_DOTENV,
        env_file_encoding="utf-8-sig",  # UTF-8, and a byte order mark is no part of a name
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
    )

    url: OptionalText = None
    """``redis://``, ``rediss://``, ``unix://``, ``valkey://``, ``valkeys://`` or ``embedded://``;
    what is special in user name and password is percent-encoded.

    Its parts go into the fields below; what stays here is scheme and place.
    """
    host: Host = DEFAULT_HOST
    """A name, an IPv4 or an IPv6 address."""
    port: Annotated[int, number(1, 65_535, whole=True)] = DEFAULT_PORT
    """The server's port."""
    username: OptionalUser = None
    """The ACL user; not set for the server's default user."""
    password: OptionalSecret = None
    """The user's password; this or ``password_file``."""
    password_file: OptionalPath = None
    """A file with the password, read again at each connect, so that it can be rotated."""
    database: Annotated[int, number(0, 2**31 - 1, whole=True)] = 0
    """The number of the database."""

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
        self, *, _env_file: str | Path | None = _DOTENV, **values: Unpack[ConfigArgs]
    ) -> None:
        given = from_constructor(values)
        del values  # a frame's locals are shown by trackers of errors
        variables, unknown = _variables(type(self), _env_file)
        self._settle(given, variables)
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
            super().__init__(_env_file=None, **{name: one.value for name, one in given.items()})
        except ValidationError as error:
            for detail in error.errors(include_url=False, include_input=False):
                name = str(detail["loc"][0])
                problems.append(f"{given[name]}: {complaint(detail)}")
                wrong.add(name)
            # Without them the rest can still be checked against each other.
            given_well = {name: one for name, one in given.items() if name not in wrong}
            super().__init__(
                _env_file=None, **{name: one.value for name, one in given_well.items()}
            )
        problems += _cross_checks(self, _Names(given, self), url, wrong)
        if problems:
            many = f"{len(problems)} settings are wrong:\n  " if len(problems) > 1 else ""
            # "from None": pydantic's error would show the values, secrets among them.
            raise ConfigError(many + "\n  ".join(problems)) from None

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
    def endpoint(self) -> str:
        """The server for a message: ``host:port`` or a socket's path; no secrets."""
        if self.embedded:
            return "embedded server"
        if self.unix_socket_path:  # as ConnectOptions.peer says it
            return self.unix_socket_path.encode(errors="backslashreplace").decode()
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

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


def sources(env_file: str | Path | None = _DOTENV, **values: Unpack[ConfigArgs]) -> Sources:
    """Where each setting comes from, by the rules of :mod:`redisutils.settings`.

    Wrong values are no trouble here: ``RedisConfig()`` names them.

    Args:
        env_file: as the constructor's ``_env_file``.
        **values: as the constructor's.

    Raises:
        ConfigError: the file cannot be read.
    """
    layer, unknown = _variables(RedisConfig, env_file)
    given, _, _ = merge(from_constructor(values), layer)
    return Sources(given, unknown)


def allowed(name: str) -> str:
    """What the setting may be, in words: ``a whole number between 1 and 10,000``."""
    return described(RedisConfig.model_fields[name])


def _variables(
    cls: type[RedisConfig], env_file: str | Path | None
) -> tuple[Layer, list[tuple[str, str]]]:
    """The settings in the environment and the file, and the unknown ones with a hint each."""
    if env_file not in (_DOTENV, None):
        env_file = Path(env_file or "").expanduser()
        if not (env_file.is_file() or is_pipe(env_file)):
            raise ConfigError(f"_env_file={env_file}: there is no such file")
    wrong = ""
    dotenv: Mapping[str, str | None] = {}
    try:
        dotenv = (
            piped_variables(env_file)
            if env_file is not None and is_pipe(env_file)
            else DotEnvSettingsSource(cls, env_file=env_file).env_vars
        )
    except TimeoutError as error:
        wrong = str(error)
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        wrong = "is not UTF-8 text"
    if wrong:  # outside, for the decoder's error with the file's bytes not to be the context
        raise ConfigError(f"{env_file}: {wrong}")
    environment = EnvSettingsSource(cls).env_vars
    layer, unknown = from_environment(environment, dotenv, cls.model_fields, str(env_file))
    return layer, sorted(unknown.items())


class _Names:
    """How to name a setting in a message: as it was given, or as the default that it is."""

    def __init__(self, given: Layer, config: RedisConfig) -> None:
        self._given = given
        self._config = config

    def __getitem__(self, name: str) -> str:
        if name in self._given:
            return str(self._given[name])
        value = getattr(self._config, name)
        return f"{PREFIX}{name.upper()}={value} (the default)"


def _cross_checks(
    config: RedisConfig, names: _Names, url: ServerUrl | None, wrong: set[str]
) -> Iterator[str]:
    """What is wrong between settings that are right each by itself; ``wrong`` ones are left out."""
    for low, high in (("pool_min_idle", "pool_max_size"), ("retry_delay_ms", "retry_max_delay_ms")):
        if wrong.isdisjoint((low, high)) and getattr(config, low) > getattr(config, high):
            yield f"{names[low]}: must not be more than {names[high]}"
    if config.password is not None and config.password_file is not None:
        yield f"{names['password']} and {names['password_file']}: set one of them"

    tls_files = ("tls_cert_path", "tls_key_path")
    for one, other in (tls_files, tls_files[::-1]):
        if wrong.isdisjoint(tls_files) and getattr(config, one) and not getattr(config, other):
            yield f"{names[one]}: needs {PREFIX}{other.upper()} too"
    local = url is not None and (url.embedded or url.path is not None)
    if local and config.tls_enabled:
        yield f"{names['tls_enabled']}: there is no TLS on {names['url']}"
    if "tls_enabled" not in wrong and not config.tls and "url" not in wrong:
        for name in (*tls_files, "tls_ca_path"):
            if getattr(config, name):
                yield f"{names[name]}: TLS is off; set REDIS_TLS_ENABLED=true or use rediss://"
        if not config.tls_check_hostname:
            name = names["tls_check_hostname"]
            yield f"{name}: TLS is off; set REDIS_TLS_ENABLED=true or use rediss://"
