"""``redisutils check`` on TLS: what is wrong with a certificate, or with who speaks what."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme

from redisutils.errors import ConnectFailed
from redisutils.testing import EmbeddedServer, TLSFiles, find_servers

from .canary import NEEDLE
from .checkup import at, checked
from .surroundings import clear
from .terminator import Terminator

AUTHORITY = trustme.CA(organization_unit_name="our own authority")


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear(monkeypatch, tmp_path)
    AUTHORITY.cert_pem.write_to_path("ca.pem")


@pytest.fixture(scope="module")
def plain_server() -> Iterator[EmbeddedServer]:
    """Of whatever kind: it is behind what is looked at."""
    with EmbeddedServer() as server:
        yield server


def context(*names: str, days: float = 365, **more: Any) -> ssl.SSLContext:
    """Of a server with a certificate for these names that ends in so many days."""
    now = datetime.datetime.now(datetime.UTC)
    issued = AUTHORITY.issue_cert(
        *names,
        not_before=now - datetime.timedelta(days=100),
        not_after=now + datetime.timedelta(days=days),
        **more,
    )
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(made)
    return made


@asynccontextmanager
async def tls_at(
    server: EmbeddedServer, patch: pytest.MonkeyPatch, how: ssl.SSLContext, **variables: object
) -> AsyncIterator[Terminator]:
    """The server behind TLS, and the environment set for it."""
    async with Terminator(server.host, server.port, how) as terminator:
        given = {"host": "localhost", "tls_enabled": "true", "tls_ca_path": "ca.pem"}
        at(patch, terminator.port, server, **(given | variables))
        yield terminator


async def test_a_good_certificate(
    plain_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_at(plain_server, monkeypatch, context("localhost", "db.example")):
        found = await checked(timeout=5)
    assert found.errors == []
    spoken, expiry = found.all("tls", "ok")
    assert spoken.facts["version"] == "TLSv1.3"
    assert spoken.facts["names"] == ["localhost", "db.example"]
    assert spoken.facts["issuer"] == "our own authority"
    assert 364 < expiry.facts["days"] <= 365
    assert found.all("tls", "warning", "error") == []
    assert found.all("latency", "ok", "note", "warning")


@pytest.mark.parametrize(("days", "severity"), [(20.5, "warning"), (3.5, "error")])
async def test_a_certificate_that_ends_soon(
    plain_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, days: float, severity: str
) -> None:
    async with tls_at(plain_server, monkeypatch, context("localhost", days=days)):
        found = await checked(timeout=5)
    [finding] = found.all("tls", "warning", "error")
    assert finding.severity == severity
    assert "ends in" in finding.found
    assert "Renew it" in (finding.remedy or "")
    assert found.all("clock", "ok")  # all else goes on


async def test_a_certificate_that_has_ended(
    plain_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_at(plain_server, monkeypatch, context("localhost", days=-3)):
        found = await checked()
    assert found.error.step == "tls"
    assert "ended 3 days ago, on 2" in found.error.found
    assert "Renew it on the server" in found.told
    assert found.report.skipped["login"] == "tls failed"


async def test_a_certificate_for_another_name(
    plain_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with tls_at(plain_server, monkeypatch, context("db.example", "db2.example")):
        found = await checked()
        assert found.error.found == (
            "the server's certificate is for db.example and db2.example, not for localhost"
        )
        assert "REDIS_HOST=db.example" in found.told
        monkeypatch.setenv("REDIS_TLS_CHECK_HOSTNAME", "false")
        found = await checked(timeout=5)
    assert found.errors == []
    [warning] = found.all("tls", "warning")
    assert "any server with a certificate of a trusted authority" in warning.found


@pytest.mark.parametrize("ca", ["other.pem", None])
async def test_an_unknown_authority(
    plain_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, ca: str | None
) -> None:
    trustme.CA().cert_pem.write_to_path("other.pem")
    async with tls_at(plain_server, monkeypatch, context("localhost"), tls_ca_path=ca):
        found = await checked()
    trusted = "REDIS_TLS_CA_PATH=other.pem" if ca else "this machine's authorities"
    assert found.error.found == (
        "the server's certificate is issued by 'our own authority', which is not among " + trusted
    )
    assert "Set REDIS_TLS_CA_PATH to the PEM file" in found.told


async def test_plain_spoken_to_a_tls_port(
    plain_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain: dict[str, object] = {"tls_enabled": None, "tls_ca_path": None}
    async with tls_at(plain_server, monkeypatch, context("localhost"), **plain):
        found = await checked()
    assert found.error.step == "port"
    assert "speaks TLS" in found.error.found
    assert "Set REDIS_TLS_ENABLED=true" in found.told


async def test_tls_spoken_to_a_plain_port(
    plain_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    at(monkeypatch, plain_server, tls_enabled="true")
    found = await checked(timeout=2.5)
    assert found.error.step == "tls"
    assert "does not speak TLS" in found.error.found
    assert "REDIS_TLS_ENABLED=false" in found.told


async def test_a_client_certificate_is_wanted(
    plain_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    mutual = context("localhost")
    mutual.verify_mode = ssl.CERT_REQUIRED
    AUTHORITY.configure_trust(mutual)
    async with tls_at(plain_server, monkeypatch, mutual):
        found = await checked(timeout=5)
    assert found.error.step == "login"
    assert "client certificate" in found.error.found
    assert "REDIS_TLS_CERT_PATH" in found.told


async def test_files_that_are_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    at(monkeypatch, 6379, password=NEEDLE, tls_enabled="true", tls_ca_path="absent.pem")
    found = await checked()
    assert found.error.step == "configuration"
    assert "absent.pem: cannot be read: No such file" in found.error.found


async def test_a_server_that_speaks_tls_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    issued = AUTHORITY.issue_cert("localhost", "127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path("server.pem")
    if "redis" not in find_servers():
        pytest.skip("needs redis-server: Valkey's wheel has no TLS")
    try:
        server = EmbeddedServer("redis", tls=TLSFiles("server.pem", "server.pem", "ca.pem"))
        await server.start()
    except ConnectFailed as error:
        pytest.skip(f"this redis-server has no TLS: {error}")
    try:
        at(monkeypatch, server.tls_port, server)
        found = await checked()
        assert found.error.step == "port"
        assert "speaks TLS" in found.error.found
        at(monkeypatch, server.tls_port, server, tls_enabled="true", tls_ca_path="ca.pem")
        found = await checked(timeout=5)
        assert found.errors == []
        assert found.all("tls", "ok")[0].facts["version"] == "TLSv1.3"
    finally:
        await server.stop()
