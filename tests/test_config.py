"""Settings: where they come from, which one counts, what is refused, and that no secret shows."""

from __future__ import annotations

import copy
import logging
import os
import pickle
import re
import subprocess
import sys
import typing
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from redisutils import files
from redisutils.config import ConfigArgs, RedisConfig
from redisutils.errors import ConfigError

from .surroundings import Setenv, config, refused

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("empty_surroundings")


# Defaults and sources


def test_defaults() -> None:
    assert RedisConfig().model_dump() == {
        "url": None,
        "host": "localhost",
        "port": 6379,
        "username": None,
        "password": None,
        "password_file": None,
        "database": 0,
        "mode": "standalone",
        "nodes": (),
        "sentinel_master": None,
        "sentinel_username": None,
        "sentinel_password": None,
        "address_map": (),
        "read_from": "primary",
        "read_max_lag_seconds": None,
        "read_zone": None,
        "read_own_writes_seconds": 0.0,
        "read_hedge": 0.0,
        "pool_max_size": 10,
        "pool_min_idle": 0,
        "pool_max_idle_seconds": None,
        "pool_max_lifetime_seconds": None,
        "pool_timeout": None,
        "connection_timeout": 30.0,
        "command_timeout": 10.0,
        "tls_enabled": False,
        "tls_cert_path": None,
        "tls_key_path": None,
        "tls_ca_path": None,
        "tls_check_hostname": True,
        "max_retries": 5,
        "retry": "safe",
        "retry_delay_ms": 100,
        "retry_max_delay_ms": 5000,
        "health_check_interval": 30.0,
        "circuit_breaker_seconds": 5.0,
        "slow_log_keys": "hash",
        "client_name": "redisutils",
    }


EVERY_VARIABLE: dict[str, tuple[str, object]] = {
    "host": ("redis.internal", "redis.internal"),
    "port": ("7000", 7000),
    "username": ("trader", "trader"),
    "password": ("s3cret", SecretStr("s3cret")),
    "database": ("3", 3),
    "pool_max_size": ("50", 50),
    "pool_min_idle": ("5", 5),
    "pool_max_idle_seconds": ("60", 60.0),
    "pool_max_lifetime_seconds": ("3600.5", 3600.5),
    "pool_timeout": ("0.25", 0.25),
    "connection_timeout": ("5", 5.0),
    "command_timeout": ("1.5", 1.5),
    "tls_enabled": ("TRUE", True),
    "tls_cert_path": ("/c.crt", Path("/c.crt")),
    "tls_key_path": ("/c.key", Path("/c.key")),
    "tls_ca_path": ("/ca.crt", Path("/ca.crt")),
    "tls_check_hostname": ("no", False),
    "max_retries": ("0", 0),
    "retry": ("Never", "never"),
    "retry_delay_ms": ("10", 10),
    "retry_max_delay_ms": ("20", 20),
    "health_check_interval": ("0", 0.0),
    "circuit_breaker_seconds": ("Off", 0.0),
    "slow_log_keys": ("Plain", "plain"),
    "client_name": ("desk-1", "desk-1"),
}


OF_MANY_SERVERS: dict[str, tuple[str, object]] = {
    "mode": ("Sentinel", "sentinel"),
    "nodes": ("10.0.0.1, [::1]:7000", (("10.0.0.1", 26379), ("::1", 7000))),
    "sentinel_master": ("mymaster", "mymaster"),
    "sentinel_username": ("watcher", "watcher"),
    "sentinel_password": ("s3cret", SecretStr("s3cret")),
    "address_map": ("10.0.0.1:7=h:8", ((("10.0.0.1", 7), ("h", 8)),)),
    "read_from": ("Prefer-Replica", "prefer-replica"),
    "read_max_lag_seconds": ("0.5", 0.5),
    "read_zone": ("eu-1", "eu-1"),
    "read_own_writes_seconds": ("2", 2.0),
    "read_hedge": ("0.05", 0.05),
}


def test_every_variable_is_tried_below() -> None:
    tried = EVERY_VARIABLE.keys() | OF_MANY_SERVERS.keys() | {"url", "password_file"}
    assert tried == RedisConfig.model_fields.keys()


MANY_SERVERS = {
    name: both for name, both in EVERY_VARIABLE.items() if name not in ("host", "port")
} | OF_MANY_SERVERS


@pytest.mark.parametrize("variables", [EVERY_VARIABLE, MANY_SERVERS], ids=["one", "many"])
@pytest.mark.parametrize("source", ["environment", "dotenv"])
def test_every_variable_is_read(
    source: str, variables: dict[str, tuple[str, object]], env: Setenv, dotenv: Setenv
) -> None:
    put = env if source == "environment" else dotenv
    put(**{name.upper(): text for name, (text, _) in variables.items()})
    found = RedisConfig()
    assert {name: getattr(found, name) for name in variables} == {
        name: value for name, (_, value) in variables.items()
    }


def test_constructor_over_environment_over_dotenv_over_default(env: Setenv, dotenv: Setenv) -> None:
    dotenv(POOL_MAX_SIZE="1", MAX_RETRIES="1", COMMAND_TIMEOUT="1")
    env(POOL_MAX_SIZE="2", MAX_RETRIES="2")
    found = RedisConfig(pool_max_size=3)
    assert (found.pool_max_size, found.max_retries, found.command_timeout) == (3, 2, 1.0)
    assert found.connection_timeout == 30.0


def test_dotenv_can_be_turned_off_or_be_another_file(dotenv: Setenv, tmp_path: Path) -> None:
    dotenv(HOST="from-dotenv")
    other = tmp_path / "other.env"
    other.write_text("REDIS_HOST=from-other\n")
    assert RedisConfig().host == "from-dotenv"
    assert RedisConfig(_env_file=None).host == "localhost"
    assert RedisConfig(_env_file=other).host == "from-other"
    assert "no such file" in refused(_env_file=tmp_path / "gone.env")


def test_dotenv_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"\xef\xbb\xbfREDIS_HOST=a\n")
    assert RedisConfig().host == "a"


def test_dotenv_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / ".env").write_bytes(b"REDIS_HOST=\xff\xfe\n")
    assert refused() == ".env: is not UTF-8 text"
    assert RedisConfig(_env_file=None).host == "localhost"


def test_empty_variables_count_as_not_set(env: Setenv) -> None:
    env(HOST="", PASSWORD="", URL="", POOL_MAX_SIZE="")
    assert RedisConfig() == RedisConfig(_env_file=None)
    assert RedisConfig().model_fields_set == set()


def test_off_in_words(env: Setenv) -> None:
    env(
        POOL_MAX_IDLE_SECONDS="off",
        POOL_MAX_LIFETIME_SECONDS="None",
        POOL_TIMEOUT="off",
        HEALTH_CHECK_INTERVAL="OFF",
    )
    found = RedisConfig()
    assert found.pool_max_idle_seconds is found.pool_max_lifetime_seconds is None
    assert found.pool_timeout is None
    assert found.health_check_interval == 0.0


def test_waiting_takes_the_command_timeout_unless_set() -> None:
    assert config(command_timeout=3).wait_timeout == 3.0
    assert config(command_timeout=3, pool_timeout=0).wait_timeout == 0.0


def test_empty_text_means_none() -> None:
    found = config(url="", username="", password="", tls_ca_path="", password_file="")
    assert found.model_dump() == RedisConfig().model_dump()
    assert config(client_name="").client_name == ""


def test_paths_may_begin_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/desk")
    assert config(password_file="~/pw").password_file == Path("/home/desk/pw")


def test_argument_types_are_the_fields() -> None:
    assert typing.get_type_hints(ConfigArgs).keys() == RedisConfig.model_fields.keys()


def test_example_file_shows_every_variable_with_its_default() -> None:
    text = (ROOT / ".env.example").read_text(encoding="utf-8")
    shown = dict(re.findall(r"^#(REDIS_\w+)=(.*)$", text, re.MULTILINE))
    assert shown.pop("REDIS_LOG")
    assert shown.keys() == {f"REDIS_{name.upper()}" for name in RedisConfig.model_fields}
    for name, field in RedisConfig.model_fields.items():
        if field.default not in (None, ()):
            value = shown[f"REDIS_{name.upper()}"]
            assert getattr(config(**{name: value}), name) == field.default


# URLs


@pytest.mark.parametrize("scheme", ["redis", "rediss", "valkey", "valkeys", "REDISS"])
def test_url_is_taken_apart(scheme: str) -> None:
    found = config(url=f"{scheme}://al%40ice:p%3A%2F%40w@redis.internal:7000/3")
    assert (found.host, found.port, found.username) == ("redis.internal", 7000, "al@ice")
    assert found.current_password() == "p:/@w"
    assert found.database == 3
    assert found.tls is (scheme.lower() in ("rediss", "valkeys"))
    assert found.endpoint == "redis.internal:7000"
    assert not found.embedded
    assert found.unix_socket_path is None


def test_url_that_says_little() -> None:
    found = config(url="redis://")
    assert (found.endpoint, found.username, found.password, found.database) == (
        "localhost:6379",
        None,
        None,
        0,
    )
    assert config(url="redis://:pw@h").username is None
    assert config(url="redis://alice@h").password is None
    assert config(url="redis://h/").database == 0
    assert config(url="redis://h?db=2").database == 2
    assert config(url="redis://h/2?db=2").database == 2
    assert config(url=" redis://h \n").host == "h"


def test_url_with_an_ipv6_address() -> None:
    found = config(url="redis://[fe80::1%25eth0]:7000")
    assert (found.host, found.port, found.endpoint) == (
        "fe80::1%eth0",
        7000,
        "[fe80::1%eth0]:7000",
    )
    assert config(url="redis://[::1]").endpoint == "[::1]:6379"
    assert config(host="[::1]").host == config(host="::1").host == "::1"


def test_url_of_a_unix_socket() -> None:
    found = config(url="unix://al:p%20w@/run/re%20dis@1.sock?db=4")
    assert found.unix_socket_path == found.endpoint == "/run/re dis@1.sock"
    assert (found.username, found.current_password(), found.database) == ("al", "p w", 4)
    assert not found.tls


def test_url_of_a_private_server() -> None:
    found = config(url="embedded://")
    assert found.embedded
    assert found.endpoint == "embedded server"
    assert config(url="embedded:///2").database == 2
    assert config(url="embedded://?db=2").database == 2


text_of_any_kind = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


@given(
    username=st.none() | text_of_any_kind,
    password=st.none() | text_of_any_kind,
    host=st.from_regex(r"[a-z][a-z0-9.-]{0,20}[a-z0-9]", fullmatch=True)
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str),
    port=st.none() | st.integers(1, 65_535),
    database=st.none() | st.integers(0, 999_999),
    in_path=st.booleans(),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_percent_encoded_comes_back(
    username: str | None,
    password: str | None,
    host: str,
    port: int | None,
    database: int | None,
    in_path: bool,
) -> None:
    url = "redis://"
    if username or password:
        url += quote(username or "", safe="")
        url += f":{quote(password, safe='')}" if password else ""
        url += "@"
    url += f"[{host}]" if ":" in host else host
    url += f":{port}" if port else ""
    if database is not None:
        url += f"/{database}" if in_path else f"?db={database}"
    found = RedisConfig(_env_file=None, url=url)
    assert (found.host, found.port) == (host, port or 6379)
    assert (found.username, found.current_password()) == (username, password)
    assert found.database == (database or 0)
    again = RedisConfig(_env_file=None, **typing.cast("ConfigArgs", found.model_dump()))
    assert again == found
    assert again.replace() == found


@given(path=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_a_socket_is_called_comes_back(path: str) -> None:
    found = RedisConfig(_env_file=None, url=f"unix:///{quote(path, safe='')}")
    assert found.unix_socket_path == f"/{path}"
    assert found.replace(database=1).unix_socket_path == f"/{path}"


@given(text=st.text(), password=st.text("abcdefgh", min_size=8, max_size=8))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_url_however_broken_shows_its_password(text: str, password: str) -> None:
    url = f"redis://user:{password}{text}@host:1"
    try:
        found = repr(RedisConfig(_env_file=None, url=url))
    except ConfigError as error:
        found = str(error)
    assert password not in found


@pytest.mark.parametrize(
    ("url", "shown", "problem"),
    [
        ("localhost:6379", "localhost:6379", "must begin with redis://, rediss://"),
        ("http://h", "http://h", "must begin with redis://"),
        ("redis:/h", "redis:/***", "must begin with redis://"),
        ("redis://h:0", "redis://h:0", "port must be between 1 and 65,535"),
        ("redis://h:65536", "redis://h:65536", "port must be between"),
        ("redis://h:", "redis://h:", "port must be between"),
        ("redis://h:secret", "redis://h:***", "port must be between"),
        ("redis://:pa/ss@h", "redis://:***@h", "must be percent-encoded"),
        ("redis://:pa?ss@h", "redis://:***@h", "must be percent-encoded"),
        ("redis://:pa#ss@h", "redis://:***@h", "%23"),
        ("redis://u:p w@h", "redis://u:***@h", "spaces"),
        ("redis://token@h:x", "redis://***@h:***", "port must be between"),
        ("redis://u:%ff@h", "redis://u:***@h", "not UTF-8"),
        ("redis://h/abc", "redis://h/***", "database must be a number"),
        ("redis://h/-1", "redis://h/***", "database must be a number"),
        ("redis://h/1/2", "redis://h/***", "database must be a number"),
        ("redis://h?db=x", "redis://h?db=***", "database must be a number"),
        ("redis://h/1?db=2", "redis://h/1?db=2", "two databases: /1 and ?db=2"),
        ("redis://h?db=1&db=2", "redis://h?db=1&db=2", "more than once"),
        ("redis://h?password=x", "redis://h?password=***", "parameter 'password' is unknown"),
        (
            "redis://h?db=1&ssl_cert_reqs=none",
            "redis://h?db=1&ssl_cert_reqs=***",
            "'ssl_cert_reqs' is unknown",
        ),
        ("redis://[::1", "redis://[:***", "in brackets"),
        ("redis://::1:6379", "redis://:***", "in brackets"),
        ("redis://[nonsense]", "redis://[nonsense]", "brackets"),
        ("unix://run/x.sock", "unix://run/x.sock", "three slashes"),
        ("unix://", "unix://", "three slashes"),
        ("unix:///", "unix:///", "three slashes"),
        ("embedded://host", "embedded://host", "no host"),
        ("embedded://u:p@", "embedded://u:***@", "no host"),
        ("redis+nothing://a", "redis+nothing://a", "must begin with redis://, rediss://"),
        ("redis+cluster://a:x,b", "redis+cluster://a:***", "port must be between"),
        ("redis+cluster://a,b:x", "redis+cluster://a,b:***", "port must be between"),
        ("redis+cluster://a,,b", "redis+cluster://a,,b", "names no host between two commas"),
        ("redis+cluster://a,", "redis+cluster://a,", "names no host between two commas"),
        ("redis+cluster://u:p@w@a", "redis+cluster://u:***@a", "percent-encoded as %40"),
        ("redis+cluster://u:p@a,u:p@b", "redis+cluster://u:***@b", "once, before the first"),
        ("redis+cluster://u:p/w@a", "redis+cluster://u:***@a", "must be percent-encoded"),
        ("redis+cluster://a/x", "redis+cluster://a/***", "database must be a number"),
        ("redis+cluster://a/m/0", "redis+cluster://a/***", "database must be a number"),
        ("redis+sentinel://a/m/x", "redis+sentinel://a/***", "database must be a number"),
        ("redis+sentinel://a/m/0/1", "redis+sentinel://a/***", "database must be a number"),
        ("redis+sentinel://a/m/1?db=2", "redis+sentinel://a/m/1?db=2", "names two databases"),
        ("redis+sentinel://a/m?x=1", "redis+sentinel://a/m?x=***", "parameter 'x' is unknown"),
        ("redis+sentinel://u:x/m", "redis+sentinel://u:***/***", "port must be between"),
        ("redis+sentinel://a:1/my%20m", "redis+sentinel://a:1/***", "without spaces"),
        ("redis+cluster://::1,a", "redis+cluster://:***", "in brackets"),
        ("redis://a:1,b:2", "redis://a:***", "names several hosts: begin it with redis+cluster"),
        ("unix+cluster:///x", "unix+cluster:///***", "must begin with"),
    ],
)
def test_wrong_urls(url: str, shown: str, problem: str, env: Setenv) -> None:
    env(URL=url)
    message = refused()
    assert message.startswith(f"REDIS_URL={shown}: ")
    assert problem in message


# A URL that meets the separate settings


@pytest.mark.parametrize(
    ("url", "variable", "value"),
    [
        ("redis://a", "HOST", "b"),
        ("redis://a:1", "PORT", "2"),
        ("redis://a", "PORT", "7000"),
        ("redis://al@a", "USERNAME", "bo"),
        ("redis://:pw1@a", "PASSWORD", "pw2"),
        ("redis://a/1", "DATABASE", "2"),
        ("redis://a?db=1", "DATABASE", "2"),
        ("rediss://a", "TLS_ENABLED", "false"),
        ("unix:///x", "HOST", "b"),
        ("embedded://", "HOST", "b"),
        ("redis+cluster://a", "MODE", "sentinel"),
        ("redis+cluster://a", "MODE", "standalone"),
        ("redis+cluster://a", "HOST", "b"),
        ("redis+cluster://a:1", "PORT", "7000"),
        ("redis+cluster://a:1,b:2", "NODES", "a:1"),
        ("redis+sentinel://a/m", "NODES", "a:6379"),
        ("redis+sentinel://a/m", "SENTINEL_MASTER", "n"),
        ("redis+cluster://:pw1@a", "PASSWORD", "pw2"),
        ("redis+cluster://a/1", "DATABASE", "2"),
        ("rediss+cluster://a", "TLS_ENABLED", "false"),
    ],
)
@pytest.mark.parametrize("place", ["environment", "dotenv", "both", "constructor"])
def test_contradictions_name_both(
    url: str, variable: str, value: str, place: str, env: Setenv, dotenv: Setenv
) -> None:
    """``both``: the setting stands in the environment, the URL in the file."""
    if place == "constructor":
        message = refused(**{"url": url, variable.lower(): value})
        names = (f"{variable.lower()}=", "url=")
    else:
        if place == "both":
            env(**{variable: value})
            dotenv(URL=url)
        else:
            (dotenv if place == "dotenv" else env)(**{"URL": url, variable: value})
        message = refused()
        names = (f"REDIS_{variable}=", "REDIS_URL=")
    assert all(name in message for name in names), message
    assert "contradicts" in message
    assert "pw1" not in message
    assert "pw2" not in message


def test_the_same_said_twice_is_no_contradiction(env: Setenv) -> None:
    env(
        URL="rediss://al:p%40w@Redis.Internal:7000/3",
        HOST="redis.internal",
        PORT="07000",
        USERNAME="al",
        PASSWORD="p@w",
        DATABASE="3",
        TLS_ENABLED="true",
    )
    assert RedisConfig().endpoint == "redis.internal:7000"


def test_separate_settings_fill_in_what_the_url_leaves_open(env: Setenv) -> None:
    env(URL="redis://a", USERNAME="al", PASSWORD="pw", DATABASE="3", TLS_ENABLED="1")
    found = RedisConfig()
    assert (found.username, found.current_password(), found.database) == ("al", "pw", 3)
    assert found.tls


def test_an_address_in_the_constructor_drops_the_environments_url_whole(env: Setenv) -> None:
    env(URL="rediss://al:pw@prod:7000/3")
    for arguments in ({"host": "other"}, {"port": 7001}, {"url": "redis://other"}, {"url": None}):
        found = config(**arguments)
        assert found.host != "prod"
        assert (found.username, found.password) == (None, None)
        assert (found.database, found.tls) == (0, False)


def test_a_url_in_the_constructor_drops_the_environments_host_and_port(env: Setenv) -> None:
    env(HOST="prod", PORT="7000", PASSWORD="pw", DATABASE="3")
    found = config(url="redis://other")
    assert found.endpoint == "other:6379"
    assert (found.current_password(), found.database) == ("pw", 3)
    assert config(url="redis://:mine@other/1").current_password() == "mine"
    assert config(url="redis://:mine@other/1").database == 1


def test_the_constructor_changes_single_parts_of_the_environments_url(env: Setenv) -> None:
    env(URL="rediss://al:pw@prod:7000/3")
    found = config(database=4, password="mine", username="bo")
    assert (found.endpoint, found.database, found.tls) == ("prod:7000", 4, True)
    assert (found.username, found.current_password()) == ("bo", "mine")
    assert config(tls_enabled=False).tls is False
    assert config(password=None).password is None


def test_the_constructors_password_drops_the_environments_file_and_reverse(
    env: Setenv, tmp_path: Path
) -> None:
    file = tmp_path / "pw"
    file.write_text("from-file\n")
    env(PASSWORD_FILE=str(file))
    assert config().current_password() == "from-file"
    assert config(password="mine").current_password() == "mine"
    assert config(url="redis://:mine@h").current_password() == "mine"
    assert config(password=None).current_password() == "from-file"


def test_the_constructors_password_file_drops_a_password_in_the_environments_url(
    env: Setenv, tmp_path: Path
) -> None:
    file = tmp_path / "pw"
    file.write_text("from-file")
    env(URL="redis://:pw@h")
    assert config(password_file=file).current_password() == "from-file"
    assert config(password_file=file).password is None


def test_a_local_server_in_the_constructor_drops_the_environments_tls(env: Setenv) -> None:
    env(TLS_ENABLED="true", TLS_CA_PATH="/ca", TLS_CHECK_HOSTNAME="false")
    assert not config(url="unix:///x").tls
    assert not config(url="embedded://").tls
    assert config(tls_enabled=False).tls_ca_path is None
    assert config(url="redis://h").tls


def test_kubernetes_port(env: Setenv, dotenv: Setenv) -> None:
    env(PORT="tcp://10.0.0.1:6379")
    message = refused()
    assert message.startswith("REDIS_PORT=tcp://10.0.0.1:6379: is not a port. Kubernetes")
    assert "enableServiceLinks" in message
    # Where somebody says what is meant, nobody has to clear the variable away.
    assert config(port=7000).port == 7000
    assert config(url="redis://h").port == 6379
    dotenv(PORT="7001")
    assert config().port == 7001
    dotenv()
    env(URL="redis://h:7002")
    assert config().port == 7002


# Refusals


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("pool_max_size", "0", "must be between 1 and 10,000"),
        ("pool_max_size", "10001", "must be between 1 and 10,000"),
        ("pool_max_size", "many", "must be a whole number between 1 and 10,000"),
        ("pool_max_size", "1.5", "must be a whole number between 1 and 10,000"),
        ("pool_max_size", "1" * 5000, "must be"),
        ("pool_min_idle", "-1", "must be between 0 and 10,000"),
        ("port", "0", "must be between 1 and 65,535"),
        ("port", "65536", "must be between 1 and 65,535"),
        ("database", "-1", "must be between 0 and"),
        ("command_timeout", "0", "must be greater than 0"),
        ("command_timeout", "-1", "must be greater than 0"),
        ("command_timeout", "nan", "must be a number greater than 0"),
        ("connection_timeout", "inf", "must be a number greater than 0"),
        ("connection_timeout", "1e999", "must be a number greater than 0"),
        ("connection_timeout", "off", "must be a number greater than 0"),
        ("pool_timeout", "-0.1", "must be 0 or more, or off"),
        ("pool_max_idle_seconds", "0", "must be greater than 0, or off"),
        ("pool_max_lifetime_seconds", "soon", "must be a number greater than 0, or off"),
        ("health_check_interval", "-1", "must be 0 or more, or off"),
        ("max_retries", "-1", "must be between 0 and 1,000"),
        ("tls_enabled", "maybe", "must be true or false"),
        ("tls_check_hostname", "2", "must be true or false"),
        ("retry", "sometimes", "must be safe, never or always"),
        ("host", "redis://h", "must be a host alone: a URL belongs into REDIS_URL"),
        ("host", "h:6379", "must be a host alone: the port belongs into REDIS_PORT"),
        (
            "host",
            "/run/x.sock",
            "must be a host alone: for a Unix socket set REDIS_URL=unix:///path",
        ),
        ("host", "two words", "must be a host name or an IP address"),
        ("host", "[h]", "only an IPv6 address"),
        ("host", "1:2:3", "is not an IPv6 address"),
        ("client_name", "two words", "must hold no spaces"),
        ("client_name", "naïve", "must hold no spaces and only printable ASCII"),
    ],
)
def test_wrong_values_are_named_shown_and_explained(
    name: str, value: str, problem: str, env: Setenv, dotenv: Setenv, tmp_path: Path
) -> None:
    variable = f"REDIS_{name.upper()}"
    shown = value if len(value) <= 120 else value[:117] + "..."
    assert refused(**{name: value}).startswith(f"{name}={shown}: {problem}")
    dotenv(**{name.upper(): value})
    assert refused().startswith(f"{variable}={shown} (in .env): {problem}")
    env(**{name.upper(): value})
    assert refused().startswith(f"{variable}={shown}: {problem}")


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("pool_max_size", True, "pool_max_size=True: must be a whole number"),
        ("pool_max_size", 1.5, "pool_max_size=1.5: must be a whole number"),
        ("pool_max_size", float("nan"), "pool_max_size=nan: must be a whole number"),
        ("pool_max_size", None, "pool_max_size=None: must be a whole number"),
        ("command_timeout", float("inf"), "command_timeout=inf: must be a number"),
        ("host", None, "host=None: must be text"),
        ("host", "", "host=: must be a host name"),
        ("username", 7, "username=7: must be text"),
        ("password", 7, "password=***: must be text"),
        ("password", ["pw"], "password=***: must be text"),
        ("url", 7, "url=***: must be text"),
        ("tls_enabled", "x\ny", "tls_enabled='x\\ny': must be true or false"),
        ("tls_ca_path", 7, "tls_ca_path=7: must be a path"),
    ],
)
def test_wrong_types(name: str, value: object, problem: str) -> None:
    assert refused(**{name: value}).startswith(problem)


def test_numbers_in_other_clothes() -> None:
    assert config(pool_max_size=10.0).pool_max_size == 10
    assert config(pool_max_size=" 12 ").pool_max_size == 12
    assert config(command_timeout=2).command_timeout == 2.0


def test_all_that_is_wrong_is_listed_at_once(env: Setenv, dotenv: Setenv) -> None:
    dotenv(RETRY_DELAY_MS="9000")
    env(PORT="0", POOL_MIN_IDLE="20", URL="redis://u:pw@h:x")
    message = refused(command_timeout=-1, pool_sise=3)
    assert message.splitlines() == [
        "6 settings are wrong:",
        "  pool_sise: there is no such setting: did you mean pool_max_size?",
        "  REDIS_URL=redis://u:***@h:***: its port must be between 1 and 65,535",
        "  REDIS_PORT=0: must be between 1 and 65,535",
        "  command_timeout=-1: must be greater than 0",
        "  REDIS_POOL_MIN_IDLE=20: must not be more than REDIS_POOL_MAX_SIZE=10 (the default)",
        (
            "  REDIS_RETRY_DELAY_MS=9000 (in .env): must not be more than "
            "REDIS_RETRY_MAX_DELAY_MS=5000 (the default)"
        ),
    ]


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (
            {"pool_min_idle": 3, "pool_max_size": 2},
            "pool_min_idle=3: must not be more than pool_max_size=2",
        ),
        (
            {"retry_delay_ms": 2, "retry_max_delay_ms": 1},
            "retry_delay_ms=2: must not be more than retry_max_delay_ms=1",
        ),
        (
            {"password": "pw", "password_file": "/f"},
            "password=*** and password_file=/f: set one of them",
        ),
        (
            {"url": "redis://:pw@h", "password_file": "/f"},
            "url=redis://:***@h and password_file=/f: set one of them",
        ),
        (
            {"tls_enabled": True, "tls_cert_path": "/c"},
            "tls_cert_path=/c: needs REDIS_TLS_KEY_PATH too",
        ),
        (
            {"url": "rediss://h", "tls_key_path": "/k"},
            "tls_key_path=/k: needs REDIS_TLS_CERT_PATH too",
        ),
        ({"tls_ca_path": "/ca"}, "tls_ca_path=/ca: TLS is off"),
        ({"tls_check_hostname": False}, "tls_check_hostname=False: TLS is off"),
        ({"url": "unix:///x", "tls_enabled": True}, "tls_enabled=True: there is no TLS on url="),
        ({"url": "embedded://", "tls_enabled": True}, "tls_enabled=True: there is no TLS on url="),
    ],
)
def test_settings_that_do_not_go_together(arguments: dict[str, object], problem: str) -> None:
    assert refused(**arguments).startswith(problem)
    assert "\n" not in refused(**arguments)


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("hots", "host"),
        ("db", "database"),
        ("socket_timeout", "command_timeout"),
        ("max_connections", "pool_max_size"),
        ("ssl", "tls_enabled"),
        ("REDIS_HOST", "host"),
        ("pool_maxsize", "pool_max_size"),
    ],
)
def test_unknown_arguments_are_refused_with_the_nearest_name(name: str, near: str) -> None:
    assert refused(**{name: 1}) == f"{name}: there is no such setting: did you mean {near}?"


def test_an_unknown_argument_that_is_like_nothing() -> None:
    assert refused(zzz="pw") == "zzz: there is no such setting"


# Unknown variables


def test_unknown_variables_are_warned_of_once(
    env: Setenv, dotenv: Setenv, caplog: pytest.LogCaptureFixture
) -> None:
    env(POOL_MAXSIZE="5", DB="3", ZZZ="pw")
    dotenv(HOTS="x")
    with caplog.at_level(logging.WARNING), pytest.warns(UserWarning, match="REDIS_DB") as caught:
        RedisConfig()
    assert len(caught) == len(caplog.records) == 1
    assert caught[0].filename == __file__
    assert str(caught[0].message) == caplog.messages[0]
    assert str(caught[0].message) == (
        "no setting of redisutils, ignored: REDIS_DB (did you mean REDIS_DATABASE?), "
        "REDIS_HOTS (in .env) (did you mean REDIS_HOST?), "
        "REDIS_POOL_MAXSIZE (did you mean REDIS_POOL_MAX_SIZE?), REDIS_ZZZ"
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("LOG", "debug"),
        ("SERVICE_HOST", "10.0.0.1"),
        ("SERVICE_PORT", "6379"),
        ("SERVICE_PORT_REDIS", "6379"),
        ("PORT_6379_TCP", "tcp://10.0.0.1:6379"),
        ("PORT_6379_TCP_ADDR", "10.0.0.1"),
        ("PORT_6379_TCP_PROTO", "tcp"),
        ("MASTER_SERVICE_HOST", "10.0.0.1"),
        ("MASTER_PORT", "tcp://10.0.0.1:6379"),
        ("MASTER_PORT_6379_TCP_PORT", "6379"),
        ("ENV_LANG", "C"),
        ("VERSION", "7.0.15"),
    ],
)
def test_what_orchestrators_and_images_set_is_passed_over(
    name: str, value: str, env: Setenv, caplog: pytest.LogCaptureFixture
) -> None:
    env(**{name: value})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RedisConfig() == RedisConfig(_env_file=None)
    assert not caplog.records


# Secrets


def every_face(found: RedisConfig) -> Iterator[str]:
    yield from (repr(found), str(found), f"{found}", found.endpoint)
    yield from (
        str(found.model_dump()),
        found.model_dump_json(),
        str(found.model_dump(mode="json")),
    )


def test_no_secret_in_any_face() -> None:
    for found in (
        config(password="hunter2"),
        config(url="redis://al:hunter2@h"),
        config(url="redis://al:hunter2@h").replace(database=1),
        config(url="unix://al:hunter2@/run/x.sock"),
    ):
        assert found.current_password() == "hunter2"
        for face in every_face(found):
            assert "hunter2" not in face


def test_no_secret_in_any_refusal() -> None:
    for arguments in (
        {"password": "hunter2", "port": 0},
        {"url": "redis://al:hunter2@h:0"},
        {"url": "redis://al:hunter2@h", "password": "hunter3"},
        {"url": "al:hunter2@h"},
        {"passwort": "hunter2"},
        {"password": ["hunter2"]},
    ):
        with pytest.raises(ConfigError) as caught:
            config(**arguments)
        assert "hunter" not in str(caught.value)
        assert caught.value.__suppress_context__


def test_no_secret_when_an_assignment_is_refused() -> None:
    found = config()
    with pytest.raises(AttributeError, match="immutable") as caught:
        found.password = SecretStr("hunter2")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(AttributeError, match="immutable"):
        setattr(found, "passwort", "hunter2")  # noqa: B010  # mypy would refuse the plain form
    assert found == config()


# The password's file


def test_password_file_is_read_anew_each_time(tmp_path: Path) -> None:
    file = tmp_path / "pw"
    file.write_bytes(b"first\n")
    found = config(password_file=file)
    assert found.current_password() == "first"
    file.write_bytes(b"sec ond\r\n")
    assert found.current_password() == "sec ond"
    file.write_bytes(b"third\n\n")
    assert found.current_password() == "third\n"


def test_password_file_in_trouble(tmp_path: Path) -> None:
    file = tmp_path / "pw"
    found = config(password_file=file)
    for content, problem in (
        (None, "cannot be read: No such file or directory"),
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"hunter2\xff", "is not UTF-8 text"),
    ):
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(ConfigError) as caught:
            found.current_password()
        assert str(caught.value) == f"REDIS_PASSWORD_FILE={file}: {problem}"
    with pytest.raises(ConfigError, match="Is a directory"):
        config(password_file=tmp_path).current_password()


# Copies


def test_replace_is_checked_and_reads_nothing_again(env: Setenv, dotenv: Setenv) -> None:
    before = config(url="rediss://al:pw@h:7000/3", pool_max_size=5)
    env(POOL_MIN_IDLE="2", URL="redis://elsewhere", NONSENSE="1")
    dotenv(MAX_RETRIES="9")
    after = before.replace(database=4).replace(command_timeout=1)
    assert (after.endpoint, after.database, after.pool_max_size) == ("h:7000", 4, 5)
    assert (after.command_timeout, after.pool_min_idle, after.max_retries) == (1.0, 0, 5)
    assert (before.database, before.command_timeout) == (3, 10.0)
    with pytest.raises(ConfigError, match="pool_max_size=0"):
        before.replace(pool_max_size=0)


def test_replace_keeps_credentials_and_tls_for_another_host() -> None:
    after = config(url="rediss://al:pw@h:7000/3").replace(host="other")
    assert (after.endpoint, after.tls, after.database) == ("other:7000", True, 3)
    assert (after.username, after.current_password()) == ("al", "pw")
    assert config(url="unix:///x").replace(host="h").unix_socket_path is None


def test_copies_and_pickles_are_equal() -> None:
    found = config(url="rediss://al:pw@h:7000/3")
    assert pickle.loads(pickle.dumps(found)) == copy.deepcopy(found) == found
    assert hash(found) == hash(copy.copy(found))


# Weight


def test_the_package_alone_does_not_load_pydantic() -> None:
    program = "import sys, redisutils; sys.exit('pydantic' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


# --- what a password file may not be ---


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (
            os.mkfifo,
            "is a named pipe, which can be read once, and it is read at each connect",
        ),
        (lambda path: os.symlink("/dev/zero", path), "is a device: must be a regular file"),
        (lambda path: Path(path).write_text("x" * 65_537), "is larger than 64 KiB"),
        (os.mkdir, "cannot be read: Is a directory"),
    ],
)
def test_a_password_file_that_is_none(
    make: Callable[[str], object], wrong: str, tmp_path: Path
) -> None:
    """It is refused at once, and by name: a pipe would be waited for, a device has no end."""
    path = str(tmp_path / "password")
    make(path)
    config = RedisConfig(password_file=path)
    with pytest.raises(ConfigError, match=f"REDIS_PASSWORD_FILE={re.escape(path)}: {wrong}"):
        config.current_password()


def test_a_password_file_by_links(tmp_path: Path) -> None:
    """As Kubernetes mounts a secret: each version in a folder of its own, and links to it."""
    (tmp_path / "..1").mkdir()
    (tmp_path / "..1" / "password").write_text("x" * 65_536)
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "password").symlink_to("..data/password")
    assert RedisConfig(password_file=tmp_path / "password").current_password() == "x" * 65_536


# --- a .env that is none ---


def test_a_pipe_in_place_of_the_env_file_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keepers of secrets mount it so: each reader gets it anew, in pieces."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo(".env")

    def write() -> None:
        with open(".env", "w", encoding="utf-8") as file:
            for piece in ("REDIS_PORT=70", "07\nREDIS_HOST=there\n"):
                file.write(piece)
                file.flush()

    with ThreadPoolExecutor(1) as threads:
        writing = threads.submit(write)
        config = RedisConfig()
        writing.result(10)
    assert config.endpoint == "there:7007"


def test_a_pipe_that_nobody_writes_to_does_not_hang_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "PATIENCE", 0.01)
    pipe = tmp_path / "env"
    os.mkfifo(pipe)
    wrong = "is a named pipe, and its writer has not come, or not ended, within"
    with pytest.raises(ConfigError, match=f"{re.escape(str(pipe))}: {wrong}"):
        RedisConfig(_env_file=pipe)
    # One who comes and does not end is no better.
    writer = os.open(pipe, os.O_RDWR)
    try:
        os.write(writer, b"REDIS_PORT=7007\n")
        with pytest.raises(ConfigError, match=wrong):
            RedisConfig(_env_file=pipe)
    finally:
        os.close(writer)
