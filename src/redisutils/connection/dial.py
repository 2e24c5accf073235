"""Open a socket, shake hands, and say clearly what went wrong."""

from __future__ import annotations

import asyncio
import errno
import socket
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from math import inf
from typing import Any, Final, TypeVar

from redisutils.connection.diagnosis import speaks_plain, speaks_tls, tls_refusal
from redisutils.connection.handshake import Greeting, refusal, shake_hands
from redisutils.connection.options import ConnectOptions
from redisutils.connection.owner import NOBODY
from redisutils.connection.protocol import Connection
from redisutils.connection.reach import addresses, why
from redisutils.errors import (
    ConnectFailed,
    ConnectionLost,
    ConnectTimeout,
    ProtocolError,
)
from redisutils.metrics.counters import PoolMetrics

__all__ = ["dial"]

_T = TypeVar("_T")

_LONG_HANDSHAKE: Final = 0.5
"""Seconds of connecting in TLS after which we look whether the server speaks it at all."""

_NAME_MISMATCH: Final = frozenset({62, 64})
"""OpenSSL's X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH."""

_OUT_OF_TIME: Final = frozenset({9, 10})
"""OpenSSL's X509_V_ERR_CERT_NOT_YET_VALID and X509_V_ERR_CERT_HAS_EXPIRED."""

_TOO_OLD: Final = frozenset({"UNSUPPORTED_PROTOCOL", "TLSV1_ALERT_PROTOCOL_VERSION"})
"""OpenSSL's reasons when the two sides have no version of TLS in common."""

_WANTS_CERTIFICATE: Final = frozenset(
    {
        "SSLV3_ALERT_BAD_CERTIFICATE",
        "SSLV3_ALERT_CERTIFICATE_EXPIRED",
        "SSLV3_ALERT_CERTIFICATE_REVOKED",
        "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
        "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE",
        "TLSV13_ALERT_CERTIFICATE_REQUIRED",
        "TLSV1_ALERT_UNKNOWN_CA",
    }
)
"""OpenSSL's reasons, which are alerts of the server (RFC 8446, 6.2)."""

_OURS: Final = frozenset(
    {
        errno.EACCES,
        errno.EADDRNOTAVAIL,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOBUFS,
        errno.ENOMEM,
        errno.EPERM,
    }
)
"""What this process or machine lacks, and no sign of a dead server: descriptors, local ports,
memory, rights."""

_KEEPALIVE: Final[dict[str, int]] = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}


async def dial(
    options: ConnectOptions,
    metrics: PoolMetrics,
    *,
    silence: float = inf,
    prove: Callable[[Connection], Awaitable[None]] | None = None,
) -> Connection:
    """Connect, TLS and handshake within ``options.timeout``.

    Args:
        silence: passed to the :class:`Connection`.
        prove: looks, as the last part of the handshake, whether this is the right server; raises
            ConnectFailed if it is not.

    Raises:
        ConnectTimeout: it took longer.
        AuthenticationFailed, ConnectFailed: what the message says.
        ConfigError: a TLS or password file cannot be read.
    """
    connection: Connection | None = None
    greeting = Greeting()

    def make() -> Connection:
        nonlocal connection
        connection = Connection(
            options.peer,
            PoolMetrics(),  # the handshake is nobody's command: it counts only as bytes
            silence=silence,
            encoding=options.encoding,
            errors=options.encoding_errors,
        )
        connection.owner = greeting
        return connection

    done = False
    try:
        async with asyncio.timeout(None if options.timeout == inf else options.timeout):
            opened = await _open(options, make)
            await shake_hands(opened, options)
            if prove is not None:
                await prove(opened)
        options.dialect.spoken = True
        opened.owner = NOBODY
        if options.one_of_many:
            opened.be_one_of_many()
        opened.count_into(metrics)
        done = True
        return opened
    except TimeoutError:
        raise ConnectTimeout(
            f"connecting to {options.peer} took longer than {options.timeout:.3g} s "
            "(REDIS_CONNECTION_TIMEOUT)"
        ) from None
    except ssl.SSLError as error:
        raise _tls_failed(options, error) from error
    except ProtocolError as error:
        raise _not_redis(options, error) from error
    except ConnectionLost as error:
        if greeting.said is not None:
            raise refusal(options, greeting.said, ()) from None
        raise await _hung_up(options, error) from error
    except OSError as error:
        failed = ConnectFailed(f"cannot connect to {options.peer}: {_reason(error)}")
        failed.own = error.errno in _OURS
        raise failed from error
    except (UnicodeError, OverflowError) as error:
        raise ConnectFailed(
            f"cannot connect to {options.peer}: no such host name or port can be ({error})",
            fatal=True,
        ) from error
    finally:
        if not done and connection is not None:
            connection.discard()  # first: what was answered was nobody's command
            connection.count_into(metrics)  # the bytes went over the wire all the same


async def _open(options: ConnectOptions, make: Callable[[], Connection]) -> Connection:
    if options.path is not None:
        _, connection = await asyncio.get_running_loop().create_unix_connection(make, options.path)
        return connection
    if options.tls is None:
        return await _connected(options, make, None)
    if options.dialect.spoken:
        return await _connected(options, make, options.tls())
    return await _suspiciously(_connected(options, make, options.tls()), options)


async def _connected(
    options: ConnectOptions, make: Callable[[], Connection], context: ssl.SSLContext | None
) -> Connection:
    """A connection to the first of the host's addresses that accepts."""
    loop = asyncio.get_running_loop()
    failures: list[tuple[str, OSError]] = []
    for address in await addresses(options.at or options.host, options.port):
        try:
            # Not a socket of ours: uvloop may close that behind our back, and its descriptor may
            # be somebody else's when we close it too.
            transport, connection = await loop.create_connection(
                make,
                address,
                options.port,
                ssl=context,
                server_hostname=options.host if context is not None else None,
                # uvloop keeps what belonged to a handshake that was cut off until this is over.
                ssl_handshake_timeout=min(options.timeout, 60.0) if context is not None else None,
            )
        except ssl.SSLError:
            raise  # who speaks there is the one who was meant
        except OSError as error:
            failures.append((address, error))
        else:
            sock = transport.get_extra_info("socket")
            if options.keepalive and sock is not None:  # None: it is gone again already
                _keep_alive(sock, options.keepalive_options)
            return connection
    if len({error.errno for _, error in failures}) == 1:
        raise failures[0][1]
    told = "; ".join(f"{address}: {why(error)}" for address, error in failures)
    raise OSError(told or "the name has no address")


async def _suspiciously(connecting: Coroutine[Any, Any, _T], options: ConnectOptions) -> _T:
    """A TLS handshake, and a closer look when it takes long: a server that expects plain text
    takes it for a line that has not ended, and says nothing."""
    handshake = asyncio.ensure_future(connecting)
    try:
        done, _ = await asyncio.wait([handshake], timeout=_LONG_HANDSHAKE)
        if not done and await speaks_plain(options) and not handshake.done():
            raise _no_tls(options)
        return await handshake
    finally:
        if not handshake.done():
            handshake.cancel()
            await asyncio.wait([handshake])
        if not handshake.cancelled():
            handshake.exception()  # if we were cancelled, nobody else asks for it


def _keep_alive(sock: socket.socket, wanted: Mapping[int, int | bytes] | None) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if wanted is None:
        # Not every platform has each of them.
        wanted = {
            getattr(socket, name): value
            for name, value in _KEEPALIVE.items()
            if hasattr(socket, name)
        }
    for option, value in wanted.items():
        sock.setsockopt(socket.IPPROTO_TCP, option, value)


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return f"the name does not resolve ({error.strerror})"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused (is the server running, and on this port?)"
    if isinstance(error, ConnectionError) and not str(error):
        return "it hung up during the TLS handshake"  # the event loops' own errors for it
    return why(error)


def _tls_failed(options: ConnectOptions, error: ssl.SSLError) -> ConnectFailed:
    if isinstance(error, ssl.SSLCertVerificationError):
        what = f"its certificate does not verify: {error.verify_message}"
        if error.verify_code in _NAME_MISMATCH:
            what += " (the certificate must name REDIS_HOST, or set REDIS_TLS_CHECK_HOSTNAME=false)"
        elif error.verify_code in _OUT_OF_TIME:
            what += " (the server needs a new certificate, or the clocks differ)"
        else:
            what += " (check REDIS_TLS_CA_PATH)"
    elif error.reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"}:
        return _no_tls(options)
    elif error.reason in _TOO_OLD:
        what = f"it speaks no TLS that we do: perhaps only one older than TLS 1.2 ({error.reason})"
    elif error.reason in _WANTS_CERTIFICATE:
        what = (
            f"it refused our client certificate, or that we have none ({error.reason}): set "
            "REDIS_TLS_CERT_PATH and REDIS_TLS_KEY_PATH to one that it trusts"
        )
    else:
        what = f"TLS failed: {error.reason or error}"
    return ConnectFailed(f"cannot connect to {options.peer}: {what}", fatal=True)


def _not_redis(options: ConnectOptions, error: ProtocolError) -> ConnectFailed:
    # A TLS alert is a record of type 21; its first byte is what the parser trips over.
    if options.tls is None and "\\x15" in str(error):
        return _speaks_tls(options)
    return ConnectFailed(error.message, fatal=True)


async def _hung_up(options: ConnectOptions, error: ConnectionLost) -> ConnectFailed:
    if options.tls is not None:
        refusal = error.__cause__
        if not isinstance(refusal, ssl.SSLError):
            refusal = await tls_refusal(options)
        if refusal is not None:
            return _tls_failed(options, refusal)
    elif options.path is None and not options.dialect.spoken and await speaks_tls(options):
        return _speaks_tls(options)
    hint = " (does it ask for a client certificate?)" if options.tls is not None else ""
    return ConnectFailed(f"{options.peer} hung up during the handshake{hint}: {error.message}")


def _no_tls(options: ConnectOptions) -> ConnectFailed:
    return ConnectFailed(
        f"cannot connect to {options.peer}: it does not speak TLS on this port: "
        "set REDIS_TLS_ENABLED=false or use its TLS port",
        fatal=True,
    )


def _speaks_tls(options: ConnectOptions) -> ConnectFailed:
    return ConnectFailed(
        f"{options.peer} speaks TLS on this port and was spoken to in plain: "
        "set REDIS_TLS_ENABLED=true (and REDIS_TLS_CA_PATH for a private authority)",
        fatal=True,
    )
