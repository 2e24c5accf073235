"""TLS: does the handshake succeed, with whom, and for how long will it?"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, Final

from redisutils.cli.check.case import Case
from redisutils.cli.check.finding import Say, Stop
from redisutils.cli.check.peer import PATIENCE, meet
from redisutils.cli.check.port import not_redis
from redisutils.cli.check.units import listed, span
from redisutils.connection.tls import TLSFiles

__all__ = ["check_tls", "judge_expiry"]

DAY: Final = 86_400.0
RENEW_SOON: Final = 30
"""Days before the end of a certificate from which on its renewal is due."""
RENEW_NOW: Final = 7
"""Days before it from which on it is late."""

_NO_CHECK_TIME: Final = 0x200000
"""OpenSSL's X509_V_FLAG_NO_CHECK_TIME, which Python has no name for."""

# OpenSSL's X509_V_ERR_…
_NOT_YET: Final = 9
_EXPIRED: Final = 10
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME: Final = frozenset({62, 64})


async def check_tls(case: Case, say: Say) -> None:
    """The step."""
    config = case.config
    files = TLSFiles(
        config.tls_cert_path,
        config.tls_key_path,
        config.tls_ca_path,
        check_hostname=config.tls_check_hostname,
    )
    context = files()
    try:
        async with _handshake(case, context) as (reader, writer):
            spoken = writer.get_extra_info("ssl_object")
            certificate = writer.get_extra_info("peercert") or {}
            version, cipher = spoken.version(), spoken.cipher()[0]
            case.open_door = await _obeys(reader, writer)
    except ssl.SSLCertVerificationError as error:
        _unverified(case, error, await _presented(case), say)
        raise Stop from None
    except OSError as error:  # TimeoutError and SSLError are some
        await _no_handshake(case, error, say)
        raise Stop from None
    facts = {"version": version, "cipher": cipher, **_facts(certificate)}
    say.ok(f"{version}, {cipher}, certificate for {listed(names_of(certificate))}", **facts)
    judge_expiry(_end_of(certificate) - time.time(), say)
    if not config.tls_check_hostname:
        say.warning(
            "REDIS_TLS_CHECK_HOSTNAME=false: any server with a certificate of a trusted authority "
            "passes for this one",
            f"Connect by a name that the certificate has ({listed(names_of(certificate))}), and "
            "remove this setting.",
        )


def judge_expiry(left: float, say: Say) -> None:
    """How long the certificate still holds, seconds."""
    days = left / DAY
    told = f"the server's certificate ends in {span(left)}"
    remedy = "Renew it on the server; new connections take the new one by themselves."
    if days < RENEW_NOW:
        say.error(told, remedy, days=days)
    elif days < RENEW_SOON:
        say.warning(told, remedy, days=days)
    else:
        say.ok(told, days=days)


@asynccontextmanager
async def _handshake(
    case: Case, context: ssl.SSLContext, patience: float | None = None
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    patience = patience or max(PATIENCE, case.timeout / 2)
    async with asyncio.timeout(patience):
        reader, writer = await asyncio.open_connection(
            case.address,
            case.config.port,
            ssl=context,
            server_hostname=case.config.host,
            ssl_handshake_timeout=patience,
        )
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _obeys(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether the server obeys one who has said no password. A refusal of our own certificate
    may come only now: the next step tells of it."""
    try:
        async with asyncio.timeout(PATIENCE):
            writer.write(b"PING\r\n")
            return (await reader.read(64)).startswith(b"+PONG")
    except OSError:
        return False


async def _presented(case: Case) -> dict[str, Any]:
    """What the certificate says that did not verify; {} when it cannot be had. Python takes apart
    only what it trusts: so it is fetched first, and then trusted for a look."""
    blind = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    blind.check_hostname = False
    blind.verify_mode = ssl.CERT_NONE
    trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    trusting.check_hostname = False
    trusting.verify_flags = ssl.VerifyFlags(ssl.VERIFY_X509_PARTIAL_CHAIN | _NO_CHECK_TIME)
    try:
        async with _handshake(case, blind, PATIENCE) as (_, writer):
            encoded = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        trusting.load_verify_locations(cadata=encoded)
        async with _handshake(case, trusting, PATIENCE) as (_, writer):
            return dict(writer.get_extra_info("peercert") or {})
    except OSError:
        return {}


def _unverified(
    case: Case, error: ssl.SSLCertVerificationError, certificate: dict[str, Any], say: Say
) -> None:
    host, code = case.config.host, error.verify_code
    names = names_of(certificate)
    facts = {"reason": error.verify_message, **_facts(certificate)}
    if code in _OTHER_NAME:
        say.error(
            f"the server's certificate is for {listed(names)}, not for {host}",
            f"Connect by a name that it has (REDIS_HOST={names[0] if names else '…'}), or have a "
            f"certificate issued for {host}. REDIS_TLS_CHECK_HOSTNAME=false would let anyone with "
            "a certificate of that authority pass for the server.",
            **facts,
        )
    elif code == _EXPIRED:
        since = time.time() - _end_of(certificate) if certificate else 0
        told = f" {span(since)} ago, on {_day(_end_of(certificate))}" if certificate else ""
        say.error(
            f"the server's certificate ended{told}",
            "Renew it on the server. If it is still good, this machine's clock is wrong: `date`.",
            **facts,
        )
    elif code == _NOT_YET:
        say.error(
            "the server's certificate does not hold yet",
            "One of the two clocks is wrong: compare `date` on both machines.",
            **facts,
        )
    elif code in _UNKNOWN_AUTHORITY:
        ca = case.config.tls_ca_path
        trusted = f"REDIS_TLS_CA_PATH={ca}" if ca else "this machine's authorities"
        issuer = _common_name(certificate.get("issuer", ()))
        by = f" is issued by {issuer!r}, which" if issuer else "'s issuer"
        say.error(
            f"the server's certificate{by} is not among {trusted}",
            "Set REDIS_TLS_CA_PATH to the PEM file of the authority that issued it; whoever runs "
            "the server has it (`tls-ca-cert-file` there).",
            **facts,
        )
    else:
        say.error(
            f"the server's certificate does not verify: {error.verify_message}",
            "Have the server's certificate looked at: `openssl s_client -connect "
            f"{case.endpoint}` shows it.",
            **facts,
        )


async def _no_handshake(case: Case, error: OSError, say: Say) -> None:
    """TLS failed before any certificate: does the other side speak it at all?"""
    peer = await meet(case.options(), case.address)
    if peer.kind == "redis":
        say.error(
            f"the server does not speak TLS at port {case.config.port}, and is spoken to in TLS",
            "Use the server's port for TLS (`tls-port`, often 6380), or set "
            "REDIS_TLS_ENABLED=false (redis:// in REDIS_URL) if the network is yours alone.",
            peer=peer.kind,
        )
    elif peer.kind in {"http", "other", "silent"}:
        await not_redis(case, peer, say)
    else:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        say.error(
            f"the TLS handshake failed: {reason}",
            "The two sides may have no version or cipher in common (we speak TLS 1.2 and newer), "
            "or the server wants a client certificate (REDIS_TLS_CERT_PATH, REDIS_TLS_KEY_PATH).",
            reason=reason,
        )


def names_of(certificate: dict[str, Any]) -> list[str]:
    """Whom it names."""
    names = [value for _, value in certificate.get("subjectAltName", ())]
    return names or list(filter(None, [_common_name(certificate.get("subject", ()))]))


def _common_name(parts: Any) -> str:
    """Of a subject or issuer; else whatever it is called by."""
    found = {name: value for part in parts for name, value in part}
    for name in ("commonName", "organizationalUnitName", "organizationName"):
        if name in found:
            return str(found[name])
    return ""


def _facts(certificate: dict[str, Any]) -> dict[str, Any]:
    if not certificate:
        return {}
    return {
        "names": names_of(certificate),
        "issuer": _common_name(certificate.get("issuer", ())),
        "not_after": _end_of(certificate),
    }


def _end_of(certificate: dict[str, Any]) -> float:
    return float(ssl.cert_time_to_seconds(certificate["notAfter"])) if certificate else 0.0


def _day(moment: float) -> str:
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d")
