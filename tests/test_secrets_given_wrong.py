"""No secret in what is said of settings and arguments that are wrong, nor in its traceback."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme
from cryptography.hazmat.primitives import serialization

from redisutils import ConfigError, ConnectFailed, Redis, RedisConfig, create_redis_pool
from redisutils.testing import EmbeddedServer, TLSFiles

from .canary import ENCODED, NEEDLE, SECRET, Search

URL = f"redis://alice:{ENCODED}@h"
BROKEN_URLS = [
    SECRET,  # a password in the wrong place
    f"{URL}:0",
    f"{URL}/x",
    f"{URL}?db=x",
    f"{URL}?password={ENCODED}",
    f"redis://alice:{NEEDLE}#x@h",
    f"redis://alice:{NEEDLE}/x@h",
    f"redis://h:{NEEDLE}",
    f"redis://alice:{NEEDLE}@[h",
    f"http://alice:{NEEDLE}@h",
    f"alice:{NEEDLE}@h",
    f"unix://{NEEDLE}@h",
]


@pytest.fixture
def search(caplog: pytest.LogCaptureFixture) -> Search:
    return Search(caplog)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    yield
    logging.getLogger("redisutils").handlers.clear()


def refused(search: Search, where: str, make: Callable[..., Any], **given: Any) -> None:
    try:
        made = make(**given)
    except (ValueError, TypeError, redis.RedisError) as error:
        search.look_at(where, error)
    else:
        pytest.fail(f"{where} was taken: {made!r}")


@pytest.mark.parametrize("make", [RedisConfig, create_redis_pool, RedisConfig().replace])
def test_settings(search: Search, make: Callable[..., Any]) -> None:
    for url in BROKEN_URLS:
        refused(search, url, make, url=url)
    for number, wrong in enumerate(
        [
            {"password": SECRET, "port": 0},
            {"password": [SECRET]} if make is RedisConfig else {"password": 7},
            {"password": f"{SECRET}\udcff"},
            {"password": SECRET, "password_file": "file"},
            {"url": URL, "password": f"another-{SECRET}"},
            {"url": URL, "pool_max_size": 0},
            {"host": URL},
            {"port": URL},
            {"database": URL},
            {"tls_ca_path": 7, "password": SECRET},
            {"client_name": f"{URL} "},
            {"passwort": SECRET},
            {"auth": SECRET},
            {"redis_url": URL},
        ]
    ):
        refused(search, f"setting {number}", make, **wrong)
    assert search.leaks() == []


def test_variables(search: Search, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "URL": f"{URL}:0",
        "HOST": URL,
        "PORT": URL,
        "PASSWORD": f"{SECRET}\udcff",
    }.items():
        with monkeypatch.context() as patch:
            patch.setenv(f"REDIS_{name}", value)
            refused(search, name, RedisConfig)
    with monkeypatch.context() as patch:
        patch.setenv("REDIS_PASSWORT", SECRET)
        with pytest.warns(UserWarning, match="REDIS_PASS") as warned:
            search.look_at("unknown", RedisConfig())
    search.look_at("warning", *(warning.message for warning in warned))
    for content in (
        f"REDIS_PASSWORD={SECRET}\nREDIS_PORT=0\n".encode(),
        f"REDIS_PASSWORD={SECRET}".encode("latin-1"),
        f"REDIS_HOST={URL}\n".encode(),
    ):
        Path(".env").write_bytes(content)
        refused(search, ".env", RedisConfig)
    Path(".env").write_text(f"'{SECRET} \" = REDIS_PASSWORD={SECRET}\nREDIS_PASSWORD='{SECRET}\n")
    search.look_at("a broken line", RedisConfig())
    assert search.leaks() == []


def test_password_files(search: Search) -> None:
    file = Path("password")
    for content in (None, b"", f"{SECRET}\n".encode("latin-1")):
        if content is not None:
            file.write_bytes(content)
        refused(search, "file", RedisConfig(password_file=file).current_password)
    file.write_text(SECRET, "utf-8")
    assert RedisConfig(password_file=file).current_password() == SECRET
    search.look_at("file", RedisConfig(password_file=file))
    assert search.leaks() == []


def test_redis_pys_arguments(search: Search) -> None:
    for wrong in (
        {"password": SECRET, "retry_on_timeout": True},
        {"password": SECRET, "nonsense": 1},
        {"passwort": SECRET},
        {"password": SECRET, "credential_provider": object()},
        {"password": SECRET, "socket_timeout": -1},
        {"password": SECRET, "port": "x"},
        {"password": SECRET, "protocol": 4},
        {"ssl": True, "ssl_password": SECRET, "ssl_cert_reqs": "x"},
    ):
        refused(search, str(wrong.keys()), Redis, **wrong)
    for url in BROKEN_URLS:
        if not url.startswith(("unix", f"{URL}:0", f"{URL}/", f"{URL}?password")):  # taken
            refused(search, url, Redis.from_url, url=url)
    refused(search, "url", Redis.from_url, url=URL, nonsense=1)
    assert search.leaks() == []


def test_a_url_that_cannot_be_taken_apart_is_shown_without_its_secret() -> None:
    with pytest.raises(
        ValueError, match=r"redis://alice:\*\*\*@h cannot be taken apart"
    ) as failure:
        _ = Redis.from_url(f"redis://alice:{NEEDLE}#x@h")
    assert failure.value.__context__ is None
    assert Redis.from_url(URL).connection_pool.connection_kwargs["password"] == SECRET


# --- keys for TLS ---


def test_what_is_hidden_is_text_all_the_same() -> None:
    kwargs = Redis(password=SECRET).connection_pool.connection_kwargs
    assert kwargs["password"] == SECRET
    assert f"{kwargs['password']}" == SECRET
    assert NEEDLE not in repr(kwargs)
    assert NEEDLE not in repr(kwargs["password"][:10])


@pytest.fixture
def key_files() -> tuple[Path, Path]:
    """A certificate and its key, which a password protects."""
    issued = trustme.CA().issue_cert("me@example.org")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    Path("cert.pem").write_bytes(issued.cert_chain_pems[0].bytes())
    Path("key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.BestAvailableEncryption(SECRET.encode()),
        )
    )
    return Path("cert.pem"), Path("key.pem")


async def test_a_key_that_a_password_protects(search: Search, key_files: tuple[Path, Path]) -> None:
    """Nobody is asked at the terminal, which would keep the whole loop waiting."""
    cert, key = key_files
    ours: dict[str, Any] = {"tls_enabled": True, "tls_cert_path": cert, "tls_key_path": key}
    async with create_redis_pool(**ours) as pool:
        with pytest.raises(ConfigError, match=r"REDIS_TLS_KEY_PATH=key\.pem.*password") as failure:
            await pool.client.ping()
        search.look_at("ours", failure.value, pool)
    for password in (None, f"wrong-{SECRET}"):
        theirs: dict[str, Any] = {"ssl": True, "ssl_certfile": str(cert), "ssl_keyfile": str(key)}
        async with Redis(**theirs, ssl_password=password) as client:
            with pytest.raises(ConfigError, match=r"ssl_keyfile='key\.pem'") as failure:
                await client.ping()
            search.look_at("redis-py's", failure.value, client, client.connection_pool)
    key.write_text(f"-----BEGIN PRIVATE KEY-----\n{NEEDLE}\n-----END PRIVATE KEY-----\n")
    async with create_redis_pool(**ours) as pool:
        with pytest.raises(ConfigError, match=r"REDIS_TLS_KEY_PATH=key\.pem") as failure:
            await pool.client.ping()
        search.look_at("garbage", failure.value)
    assert search.leaks() == []


# --- servers of our own, and the command line ---


def test_private_servers(search: Search, tmp_path: Path) -> None:
    server = EmbeddedServer(password=SECRET)
    search.look_at("not started", server, server.process)
    with server:
        search.look_at("started", server, server.process)
        search.texts.append(("log", server.log(100)))
    broken = EmbeddedServer("redis", password=SECRET, config={"nonsense": "1"})
    with pytest.raises(ConnectFailed) as failure:
        broken.__enter__()
    search.look_at("nonsense", failure.value, broken)
    with pytest.raises(ConnectFailed) as failure:
        EmbeddedServer(
            "redis", password=SECRET, tls=TLSFiles(tmp_path, tmp_path, tmp_path)
        ).__enter__()
    search.look_at("tls", failure.value)
    assert search.leaks() == []


@pytest.mark.parametrize(
    "variables",
    [
        {"REDIS_URL": f"redis://alice:{NEEDLE}@127.0.0.1:1"},
        {"REDIS_HOST": f"redis://alice:{NEEDLE}@127.0.0.1"},
        {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": "1", "REDIS_PASSWORD": NEEDLE},
        {"REDIS_HOST": "127.0.0.1", "REDIS_PASSWORT": NEEDLE},
    ],
)
def test_the_command_line(variables: dict[str, str]) -> None:
    environment = {**os.environ, **variables, "REDIS_MAX_RETRIES": "0", "REDIS_LOG": "debug"}
    environment |= {"PYTHONASYNCIODEBUG": "1"}
    program = [sys.executable, "-m", "redisutils.cli", "demo", "--seconds", "0.1", "--plain"]
    run = subprocess.run(program, env=environment, capture_output=True, timeout=60, check=False)
    assert run.returncode != 0
    said = (run.stdout + run.stderr).decode()
    assert "redis" in said.lower()
    assert NEEDLE not in said
