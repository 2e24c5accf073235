"""What every answer has, and what no request may do: around the application's routes."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import quote

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Guard", "LoopbackOnly"]

logger = logging.getLogger("redisutils.monitor")

_BODY: Final = 8192
"""Bytes that a request may announce: only the login form has any."""

_ALWAYS: Final = {
    # Whatever the page shows, a key of Redis for instance, it can never become a program.
    b"content-security-policy": b"default-src 'self'; base-uri 'none'; form-action 'self'; "
    b"frame-ancestors 'self'; object-src 'none'",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"SAMEORIGIN",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-opener-policy": b"same-origin",
    b"cross-origin-resource-policy": b"same-origin",
}
_UNLESS_SAID: Final = (b"cache-control", b"no-store")

_LENGTH: Final = 12
"""Digits of a length that are read at most: Python refuses thousands of them."""


class Guard:
    """Sets the headers that keep a browser safe, and answers for what fails inside: no traceback
    gets out, nor to the server, which would print it again."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": _headers(message.get("headers", ()))}
            await send(message)

        if scope["path"] == scope.get("root_path", "") != "":
            # What is served here is relative to a folder. Some servers do not see to that.
            # With "./" in front it is a path, and neither a scheme nor a host.
            folder = quote(scope["path"].rpartition("/")[2], safe="", errors="replace")
            await _answer(guarded, 307, "", (b"location", f"./{folder}/".encode()))
            return
        if _announced(scope) > _BODY:
            await _answer(guarded, 413, f"a request may have {_BODY} bytes", _CLOSE)
            return
        try:
            await self._app(scope, receive, guarded)
        except (ClientDisconnect, OSError):
            logger.debug("a client hung up during %s", scope["path"])
        except Exception as error:
            # The routes have answered, if it was in time. Who asked is told nothing else.
            told = type(error).__name__
            logger.error("the answer to %s failed: %s", scope["path"], told, exc_info=error)


class LoopbackOnly:
    """Refuses requests for another host than this machine.

    What listens on loopback is out of others' reach, but not out of that of the pages that a
    browser on this machine has open: a name of theirs that comes to mean 127.0.0.1 would make
    ours one of their own. Such a request names their host. An address is no such name.

    Args:
        names: further names of this machine's loopback, which it was started with.
    """

    def __init__(self, app: ASGIApp, names: Iterable[str] = ()) -> None:
        self._app = app
        self._names = frozenset({"localhost", *(_bare(name) for name in names)})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http" and not self._is_local(scope):
            why = "this is for localhost alone; with a token it can be opened under any name"
            await _answer(send, 421, why)
            return
        await self._app(scope, receive, send)

    def _is_local(self, scope: Scope) -> bool:
        host = dict(scope["headers"]).get(b"host", b"localhost").decode("latin-1")
        name, colon, port = host.rpartition(":")
        name = _bare(name if colon and port.isdigit() else host)
        try:
            return name in self._names or ip_address(name.strip("[]")).is_loopback
        except ValueError:
            return False


def _bare(name: str) -> str:
    """The name of a host as it is compared."""
    return name.lower().removesuffix(".")


_CLOSE: Final = (b"connection", b"close")


def _headers(given: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
    names = {name.lower() for name, _ in given}
    extra = [pair for pair in _ALWAYS.items() if pair[0] not in names]
    if _UNLESS_SAID[0] not in names:
        extra.append(_UNLESS_SAID)
    return [*given, *extra]


def _announced(scope: Scope) -> int:
    """The length of the request's body, if it says so itself."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value) if len(value) <= _LENGTH else _BODY + 1
    return 0


async def _answer(send: Send, status: int, error: str, *headers: tuple[bytes, bytes]) -> None:
    body = json.dumps({"error": error}).encode() + b"\n" if error else b""
    length = (b"content-length", str(len(body)).encode())
    kind = (b"content-type", b"application/json")
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [kind, length, *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})
