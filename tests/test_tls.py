"""TLS: verified, mutual, renewed; and each way to get it wrong has words of its own."""

from __future__ import annotations

import os
import re
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from redisutils import ConfigError, ConnectFailed, Redis, RedisPool, create_redis_pool
from redisutils.connection.tls import TLSFiles as Contexts
from redisutils.testing import EmbeddedServer, FaultProxy, TLSFiles

from .ours import client_at


@dataclass
class Certificates:
    """A private authority and what it has issued."""

    authority: trustme.CA
    folder: Path

    def __post_init__(self) -> None:
        self.ca = self.folder / "ca.pem"
        self.authority.cert_pem.write_to_path(str(self.ca))

    def issue(self, name: str, *identities: str, into: Path | None = None) -> tuple[Path, Path]:
        """Files of a certificate and its key."""
        folder = into or self.folder
        issued = self.authority.issue_cert(*identities)
        cert, key = folder / f"{name}.pem", folder / f"{name}.key"
        cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(str(key))
        return cert, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(trustme.CA(), tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def tls_server(server_kind: str, certificates: Certificates) -> Any:
    """A server that speaks TLS on one port, in plain on another."""
    cert, key = certificates.issue("server", "127.0.0.1", "localhost")
    server = EmbeddedServer(server_kind, tls=TLSFiles(cert, key, certificates.ca))
    try:
        server.__enter__()
    except ConnectFailed as error:
        if "tls" not in str(error).lower():
            raise
        pytest.skip(f"this {server_kind} is built without TLS")
    yield server
    server.__exit__(None, None, None)


@pytest.fixture
async def tls_proxy(tls_server: EmbeddedServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(tls_server.host, tls_server.tls_port) as proxy:
        yield proxy


@pytest.fixture
async def plain_proxy(tls_server: EmbeddedServer) -> AsyncIterator[FaultProxy]:
    async with FaultProxy(tls_server.host, tls_server.port) as proxy:
        yield proxy


def tls_pool(server: EmbeddedServer, at: FaultProxy | None = None, **settings: Any) -> RedisPool:
    given = {
        "host": "127.0.0.1",
        "port": at.port if at else server.tls_port,
        "password": server.password,
        "tls_enabled": True,
        "command_timeout": 5,
    }
    return create_redis_pool(**{**given, **settings})


async def refused(pool: RedisPool) -> str:
    """The message with which the first command fails, at the first attempt."""
    async with pool:
        with pytest.raises(ConnectFailed) as failure:
            await pool.client.get("k")
        assert failure.value.fatal, str(failure.value)
        assert isinstance(failure.value, redis.ConnectionError)
        with pytest.raises(ConnectFailed):
            _ = await pool.get()
        assert pool.metrics().retries.get("connect", 0) == 0
        assert pool.status().size == 0
    return str(failure.value)


# --- as it should be ---


async def test_the_server_is_verified(
    tls_server: EmbeddedServer, certificates: Certificates
) -> None:
    async with tls_pool(tls_server, tls_ca_path=certificates.ca) as pool:
        await pool.client.set("k", b"x" * 100_000)
        assert await pool.client.get("k") == b"x" * 100_000
        async with pool.get() as conn:
            assert await conn.execute("PING")
            transport = conn._lease.item._transport
            assert transport.get_extra_info("ssl_object").version() in ("TLSv1.2", "TLSv1.3")


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
async def test_by_url(tls_server: EmbeddedServer, certificates: Certificates, scheme: str) -> None:
    url = tls_server.tls_url.replace("rediss", scheme)
    async with create_redis_pool(url=url, tls_ca_path=certificates.ca) as pool:
        assert await pool.client.ping()
    async with Redis.from_url(url, ssl_ca_certs=str(certificates.ca)) as client:
        assert await client.ping()


async def test_redis_pys_arguments(tls_server: EmbeddedServer, certificates: Certificates) -> None:
    place: dict[str, Any] = {"port": tls_server.tls_port, "ssl": True}
    trusting: list[dict[str, Any]] = [
        {"ssl_ca_certs": str(certificates.ca)},
        {"ssl_ca_data": certificates.ca.read_text()},
        {"ssl_cert_reqs": "none", "ssl_check_hostname": False},
    ]
    for arguments in trusting:
        async with client_at(tls_server, **place, **arguments) as client:
            assert await client.ping()
    async with client_at(tls_server, **place) as client:  # not trusting it
        with pytest.raises(redis.ConnectionError, match="does not verify"):
            await client.ping()


async def test_a_context_of_ones_own(
    tls_server: EmbeddedServer, certificates: Certificates
) -> None:
    context = ssl.create_default_context(cafile=certificates.ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    pool = create_redis_pool(
        host="localhost",
        port=tls_server.tls_port,
        password=tls_server.password,
        ssl_context=context,
    )
    async with pool, pool.get() as conn:
        ssl_object = conn._lease.item._transport.get_extra_info("ssl_object")
        assert ssl_object.version() == "TLSv1.2"
    async with client_at(tls_server, port=tls_server.tls_port, ssl_context=context) as client:
        assert await client.ping()


async def test_mutual(certificates: Certificates, tls_server: EmbeddedServer) -> None:
    cert, key = certificates.issue("mutual", "127.0.0.1")
    files = TLSFiles(cert, key, certificates.ca, client_auth="yes")
    own_cert, own_key = certificates.issue("client", "trader@example.org")
    async with EmbeddedServer(tls_server.process.binary, tls=files) as server:
        trust: dict[str, Any] = {"tls_ca_path": certificates.ca}
        own: dict[str, Any] = {"tls_cert_path": own_cert, "tls_key_path": own_key}
        async with tls_pool(server, **trust, **own) as pool:
            assert await pool.client.ping()
        message = await refused(tls_pool(server, **trust))
        assert "client certificate" in message
        assert "REDIS_TLS_CERT_PATH" in message


async def test_a_renewed_certificate_is_seen_at_the_next_connect(
    certificates: Certificates, tls_server: EmbeddedServer, tmp_path: Path
) -> None:
    other = Certificates(trustme.CA(), tmp_path)
    trusted = tmp_path / "trusted.pem"
    shutil.copy(other.ca, trusted)
    async with tls_pool(tls_server, tls_ca_path=trusted) as pool:
        with pytest.raises(ConnectFailed, match="does not verify"):
            await pool.client.ping()
        shutil.copy(certificates.ca, trusted)
        assert await pool.client.ping()


# --- as it should not ---


async def test_an_unknown_authority(
    tls_server: EmbeddedServer, tls_proxy: FaultProxy, tmp_path: Path
) -> None:
    other = Certificates(trustme.CA(), tmp_path)
    message = await refused(tls_pool(tls_server, tls_proxy, tls_ca_path=other.ca))
    assert "its certificate does not verify" in message
    assert "REDIS_TLS_CA_PATH" in message
    assert f"127.0.0.1:{tls_proxy.port}" in message
    assert tls_proxy.accepted == 2  # one each for the command and the checkout


async def test_another_host_name(certificates: Certificates, tls_server: EmbeddedServer) -> None:
    cert, key = certificates.issue("elsewhere", "redis.example.org")
    files = TLSFiles(cert, key, certificates.ca)
    async with (
        EmbeddedServer(tls_server.process.binary, tls=files) as server,
        FaultProxy(server.host, server.tls_port) as proxy,
    ):
        trust: dict[str, Any] = {"tls_ca_path": certificates.ca}
        message = await refused(tls_pool(server, proxy, **trust))
        assert "does not verify" in message
        assert "REDIS_TLS_CHECK_HOSTNAME" in message
        assert proxy.accepted == 2
        async with tls_pool(server, proxy, tls_check_hostname=False, **trust) as pool:
            assert await pool.client.ping()


async def test_plain_to_a_tls_port(tls_server: EmbeddedServer, tls_proxy: FaultProxy) -> None:
    message = await refused(tls_pool(tls_server, tls_proxy, tls_enabled=False))
    assert "speaks TLS on this port and was spoken to in plain" in message
    assert "REDIS_TLS_ENABLED=true" in message
    assert tls_proxy.accepted == 6  # each asks twice more, in plain and in TLS


async def test_tls_to_a_plain_port(
    tls_server: EmbeddedServer, plain_proxy: FaultProxy, certificates: Certificates
) -> None:
    """Such a server waits for the rest of a line that never comes, and says nothing."""
    message = await refused(tls_pool(tls_server, plain_proxy, tls_ca_path=certificates.ca))
    assert "does not speak TLS on this port" in message
    assert "REDIS_TLS_ENABLED=false" in message
    assert plain_proxy.accepted == 4  # each asks once more in plain


async def test_a_tls_port_that_says_nothing_is_a_timeout(
    tls_server: EmbeddedServer, tls_proxy: FaultProxy, certificates: Certificates
) -> None:
    tls_proxy.blackhole()
    pool = tls_pool(
        tls_server, tls_proxy, tls_ca_path=certificates.ca, connection_timeout=0.8, max_retries=0
    )
    async with pool:
        with pytest.raises(redis.TimeoutError, match=r"longer than 0\.8 s"):
            await pool.client.ping()


@pytest.mark.parametrize("wrong", ["tls_ca_path", "tls_cert_path"])
async def test_files_that_are_no_certificates(
    certificates: Certificates, tls_server: EmbeddedServer, tmp_path: Path, wrong: str
) -> None:
    cert, key = certificates.issue("client", "me@example.org", into=tmp_path)
    settings: dict[str, Any] = {
        "tls_ca_path": certificates.ca,
        "tls_cert_path": cert,
        "tls_key_path": key,
    }
    async with tls_pool(tls_server, **settings) as pool:
        garbage = tmp_path / "garbage.pem"
        garbage.write_text("not a certificate")
        pool_settings = {**settings, wrong: garbage}
        async with tls_pool(tls_server, **pool_settings) as broken:
            with pytest.raises(ConfigError, match=f"REDIS_{wrong.upper()}={garbage}"):
                await broken.client.ping()
        cert.unlink()
        with pytest.raises(ConfigError, match=rf"REDIS_TLS_CERT_PATH={cert}: cannot be read"):
            await pool.client.ping()


@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (os.mkfifo, "is a named pipe"),
        (lambda path: os.symlink("/dev/zero", path), "is a device"),
        (os.mkdir, "is a folder"),
    ],
)
@pytest.mark.parametrize("what", ["cert", "key", "ca"])
def test_a_tls_file_that_is_none(
    what: str, make: Callable[[str], object], wrong: str, tmp_path: Path
) -> None:
    """OpenSSL would wait for a pipe's writer, and for a device's end, with the event loop."""
    regular = tmp_path / "pem"
    regular.write_text("")
    odd = str(tmp_path / "odd")
    make(odd)
    cert, key, ca = (Path(odd) if what == one else regular for one in ("cert", "key", "ca"))
    told = f"REDIS_TLS_{what.upper()}_PATH={odd}: {wrong}: must be a regular file"
    with pytest.raises(ConfigError, match=re.escape(told)):
        Contexts(cert, key, ca)()
