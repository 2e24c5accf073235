"""TLS that goes wrong before any server: one clear error at once, and the pool recovers."""

from __future__ import annotations

import asyncio
import datetime
import ssl
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import redis
import trustme

from redisutils import (
    ConfigError,
    ConnectFailed,
    Outcome,
    Redis,
    RedisPool,
    create_redis_pool,
    outcome_of,
)
from redisutils.client.arguments import connect_options
from redisutils.testing import EmbeddedServer, FaultProxy

from .ours import until
from .terminator import Terminator

NOW = datetime.datetime.now(datetime.UTC)
DAY = datetime.timedelta(days=1)

OURS = trustme.CA()
THEIRS = trustme.CA()
SERVER = OURS.issue_cert("127.0.0.1")
CLIENT = OURS.issue_cert("trader@example.org")
FOREIGN = THEIRS.issue_cert("127.0.0.1")
STRANGER = THEIRS.issue_cert("trader@example.org")
OLD: dict[str, Any] = {"not_before": NOW - 3 * DAY, "not_after": NOW - DAY}
YOUNG: dict[str, Any] = {"not_before": NOW + DAY, "not_after": NOW + 3 * DAY}
EXPIRED = OURS.issue_cert("me@example.org", **OLD)


def speaking(
    certificate: trustme.LeafCert = SERVER, *, mutual: bool = False, newest: Any = None
) -> ssl.SSLContext:
    """How a server speaks TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    if mutual:
        OURS.configure_trust(context)
        context.verify_mode = ssl.CERT_REQUIRED
    if newest is not None:
        context.set_ciphers("ALL:@SECLEVEL=0")  # whatever this OpenSSL would rather not speak
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            context.minimum_version = newest
            context.maximum_version = newest
    return context


class Files:
    """The client's, which may be rewritten while it runs."""

    def __init__(self, folder: Path) -> None:
        self.ca, self.cert, self.key = folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
        self.trust(OURS)

    def trust(self, authority: trustme.CA) -> None:
        self.ca.write_bytes(authority.cert_pem.bytes())

    def show(self, certificate: trustme.LeafCert) -> None:
        self.cert.write_bytes(certificate.cert_chain_pems[0].bytes())
        self.key.write_bytes(certificate.private_key_pem.bytes())


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


def tls_pool(server: EmbeddedServer, at: Any, files: Files, **more: Any) -> RedisPool:
    given: dict[str, Any] = {"host": "127.0.0.1", "port": at.port, "password": server.password}
    given |= {"tls_enabled": True, "tls_ca_path": files.ca}
    if files.cert.exists():
        given |= {"tls_cert_path": files.cert, "tls_key_path": files.key}
    return create_redis_pool(**given | more)


def at_server(certificate: trustme.LeafCert) -> Callable[[Files], ssl.SSLContext]:
    return lambda _: speaking(certificate)


def showing(certificate: trustme.LeafCert | None) -> Callable[[Files], ssl.SSLContext]:
    def prepare(files: Files) -> ssl.SSLContext:
        if certificate is not None:
            files.show(certificate)
        return speaking(mutual=True)

    return prepare


def old_protocol(_: Files) -> ssl.SSLContext:
    return speaking(newest=ssl.TLSVersion.TLSv1_1)


FAULTS: list[tuple[str, Callable[[Files], ssl.SSLContext], str]] = [
    ("authority", at_server(FOREIGN), "not verify.*REDIS_TLS_CA_PATH"),
    ("host", at_server(OURS.issue_cert("h.example.org")), "not verify.*REDIS_TLS_CHECK_HOSTNAME"),
    ("expired", at_server(OURS.issue_cert("127.0.0.1", **OLD)), "has expired.*new certificate"),
    ("not yet valid", at_server(OURS.issue_cert("127.0.0.1", **YOUNG)), "not yet valid.*clocks"),
    ("no client certificate", showing(None), "client certificate.*REDIS_TLS_CERT_PATH"),
    ("client's authority", showing(STRANGER), "client certificate.*REDIS_TLS_CERT_PATH"),
    (
        "client's expired",
        showing(EXPIRED),
        "client certificate.*REDIS_TLS_CERT_PATH",
    ),
    ("TLS 1.1", old_protocol, "older than TLS 1.2"),
]


async def refused(pool: RedisPool, words: str) -> None:
    """The first command fails with these words, and at the first attempt."""
    started = asyncio.get_running_loop().time()
    with pytest.raises(ConnectFailed, match=words) as failure:
        await pool.client.incr("k")
    assert asyncio.get_running_loop().time() - started < pool.config.command_timeout
    assert failure.value.fatal
    assert "tried 1 time" in str(failure.value)
    assert outcome_of(failure.value) is Outcome.NOT_SENT
    with pytest.raises(ConnectFailed, match=words):
        _ = await pool.get()
    assert pool.metrics().retries == {}
    assert pool.status().size == 0


@pytest.mark.parametrize(("prepare", "words"), [f[1:] for f in FAULTS], ids=[f[0] for f in FAULTS])
async def test_a_fault_is_told_at_once_and_may_be_mended(
    clean_server: EmbeddedServer, files: Files, prepare: Any, words: str
) -> None:
    context = prepare(files)
    async with (
        Terminator(clean_server.host, clean_server.port, context) as terminator,
        tls_pool(clean_server, terminator, files) as pool,
    ):
        await refused(pool, words)
        terminator.context = speaking()
        assert await pool.client.incr("k") == 1
        async with pool.get() as conn:
            assert await conn.execute("GET", "k") == b"1"


async def test_plain_and_tls_mistaken_for_each_other(
    clean_server: EmbeddedServer, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A plain server never answers: no need to give it time.
    monkeypatch.setattr("redisutils.connection.dial._LONG_HANDSHAKE", 0.05)
    async with Terminator(clean_server.host, clean_server.port, speaking()) as terminator:
        plain = create_redis_pool(host="127.0.0.1", port=terminator.port)
        async with plain, tls_pool(clean_server, clean_server, files) as tls:
            await refused(plain, "speaks TLS on this port.*REDIS_TLS_ENABLED=true")
            await refused(tls, "does not speak TLS on this port.*REDIS_TLS_ENABLED=false")


# --- renewed while it runs ---


async def test_a_new_authority_while_it_runs(clean_server: EmbeddedServer, files: Files) -> None:
    async with (
        Terminator(clean_server.host, clean_server.port, speaking()) as terminator,
        tls_pool(clean_server, terminator, files) as pool,
    ):
        assert await pool.client.incr("k") == 1
        terminator.context = speaking(FOREIGN)
        assert await pool.client.incr("k") == 2  # on the connection of before
        files.trust(THEIRS)
        await terminator.drop_all()
        await until(lambda: pool.status().size == 0, "the end of the old connection")
        assert await pool.client.incr("k") == 3
        assert pool.metrics().errors == {}


async def test_a_new_certificate_of_ours_while_it_runs(
    clean_server: EmbeddedServer, files: Files
) -> None:
    files.show(OURS.issue_cert("first@example.org"))
    context = speaking(mutual=True)
    async with (
        Terminator(clean_server.host, clean_server.port, context) as terminator,
        tls_pool(clean_server, terminator, files) as pool,
    ):
        assert await pool.client.incr("k") == 1
        files.show(CLIENT)
        await terminator.drop_all()
        await until(lambda: pool.status().size == 0, "the end of the old connection")
        assert await pool.client.incr("k") == 2


async def test_redis_pys_files_are_read_again(clean_server: EmbeddedServer, files: Files) -> None:
    files.show(EXPIRED)
    context = speaking(mutual=True)
    given: dict[str, Any] = {"host": "127.0.0.1", "password": clean_server.password, "ssl": True}
    given |= {"ssl_ca_certs": str(files.ca)}
    given |= {"ssl_certfile": str(files.cert), "ssl_keyfile": str(files.key)}
    async with (
        Terminator(clean_server.host, clean_server.port, context) as terminator,
        Redis(port=terminator.port, retry_mode="never", **given) as client,
    ):
        with pytest.raises(ConnectFailed, match="client certificate"):
            await client.incr("k")
        files.show(CLIENT)
        assert await client.incr("k") == 1
        terminator.context = speaking(FOREIGN)
        files.trust(THEIRS)
        await terminator.drop_all()
        server: Any = client._source.server()
        await until(lambda: server.pool.status().size == 0, "the end of the old connection")
        assert await client.incr("k") == 2
        files.ca.unlink()
        await terminator.drop_all()
        await until(lambda: server.pool.status().size == 0, "the end of the old connection")
        with pytest.raises(ConfigError, match=f"ssl_ca_certs='{files.ca}'.*No such file"):
            await client.incr("k")


def test_the_rest_of_redis_pys_arguments_holds_for_a_renewed_context(files: Files) -> None:
    arguments: dict[str, Any] = {"ssl_check_hostname": False, "ssl_ciphers": "ECDHE+AESGCM"}
    arguments |= {"ssl_min_version": ssl.TLSVersion.TLSv1_3, "ssl_ca_certs": files.ca, "ssl": True}
    arguments["ssl_include_verify_flags"] = [ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF]
    tls = connect_options(arguments).tls
    assert tls is not None
    first = tls()
    assert tls() is first
    files.trust(THEIRS)
    second = tls()
    assert second is not first
    assert tls() is second
    for context in (first, second):
        assert not context.check_hostname
        assert context.verify_mode is ssl.CERT_REQUIRED
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_flags & ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        assert not [c for c in context.get_ciphers() if c["name"].startswith("DHE")]
        assert "ECDHE-RSA-CHACHA20-POLY1305" not in [c["name"] for c in context.get_ciphers()]


def test_files_in_a_directory_are_seen_to_change(files: Files) -> None:
    """As ``ssl_ca_path`` has them."""
    folder = files.ca.parent
    tls = connect_options({"ssl": True, "ssl_ca_path": str(folder)}).tls
    assert tls is not None
    changes: list[Callable[[], object]] = [
        lambda: files.trust(THEIRS),
        lambda: files.show(CLIENT),
        lambda: (folder / "broken").symlink_to("nowhere"),
        files.ca.unlink,
    ]
    last = tls()
    for change in changes:
        assert tls() is last
        change()
        assert tls() is not last
        last = tls()


async def test_an_authority_of_ones_own_is_the_only_one(
    clean_server: EmbeddedServer,
    files: Files,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The system's are for those who name none."""
    system = tmp_path / "system.pem"
    system.write_bytes(THEIRS.cert_pem.bytes())
    monkeypatch.setenv("SSL_CERT_FILE", str(system))
    async with Terminator(clean_server.host, clean_server.port, speaking(FOREIGN)) as terminator:
        async with tls_pool(clean_server, terminator, files) as pool:
            await refused(pool, "not verify.*REDIS_TLS_CA_PATH")
        async with tls_pool(clean_server, terminator, files, tls_ca_path=None) as pool:
            assert await pool.client.ping()


@pytest.mark.parametrize("name", ["ca", "cert", "key"])
async def test_a_file_that_is_half_written_is_named(
    clean_server: EmbeddedServer, files: Files, name: str
) -> None:
    files.show(CLIENT)
    path: Path = getattr(files, name)
    whole = path.read_bytes()
    context = speaking(mutual=True)
    async with (
        Terminator(clean_server.host, clean_server.port, context) as terminator,
        tls_pool(clean_server, terminator, files) as pool,
    ):
        assert await pool.client.incr("k") == 1
        for part in (whole[: len(whole) // 2], b""):
            path.write_bytes(part)
            assert await pool.client.incr("k")  # on the connection of before
            await terminator.drop_all()
            await until(lambda: pool.status().size == 0, "the end of the old connection")
            for _ in range(2):
                with pytest.raises(ConfigError, match=f"{path}") as failure:
                    await pool.client.incr("k")
                assert outcome_of(failure.value) is Outcome.NOT_SENT
            path.write_bytes(whole)
            assert await pool.client.incr("k")
        assert await pool.client.get("k") == b"5"


# --- cut ---


async def test_it_is_cut_in_the_middle_of_a_handshake(
    clean_server: EmbeddedServer, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that hung up is asked why, and says nothing, for as long as it is listened to.
    monkeypatch.setattr("redisutils.connection.diagnosis.PATIENCE", 0.1)
    async with (
        Terminator(clean_server.host, clean_server.port, speaking()) as terminator,
        FaultProxy(terminator.host, terminator.port) as proxy,
    ):
        done = 0
        for count in range(0, 700, 210):
            for way in (proxy.to_server, proxy.to_client):
                way.cut_after(count, "reset" if count % 420 else "close")
                async with tls_pool(clean_server, proxy, files, retry_delay_ms=1) as pool:
                    done += 1
                    assert await pool.client.incr("k") == done
                way.restore()


async def test_no_write_is_lost_or_doubled_when_traffic_is_cut(
    clean_server: EmbeddedServer, files: Files
) -> None:
    async with (
        Terminator(clean_server.host, clean_server.port, speaking()) as terminator,
        FaultProxy(terminator.host, terminator.port) as proxy,
        tls_pool(clean_server, proxy, files, retry_delay_ms=1) as pool,
    ):
        fates: dict[str, Outcome | None] = {}

        async def push(value: str) -> None:
            try:
                await pool.client.rpush("l", value)
                fates[value] = None
            except redis.ConnectionError as error:
                fates[value] = outcome_of(error)

        for turn in range(8):
            await pool.client.ping()  # the connection stands: the cut is in the traffic
            way = proxy.to_server if turn % 2 else proxy.to_client
            way.cut_after(150 * turn, "reset" if turn % 4 < 2 else "close")
            await asyncio.gather(*(push(f"{turn}-{n}") for n in range(50)))
            way.restore()
        listed: Any = pool.client.lrange("l", 0, -1)
        found = [str(value, "ascii") for value in await listed]
        assert len(found) == len(set(found))
        assert {value for value, fate in fates.items() if fate is None} <= set(found)
        assert not {value for value, fate in fates.items() if fate is Outcome.NOT_SENT} & set(found)
        assert Outcome.UNKNOWN in fates.values()
