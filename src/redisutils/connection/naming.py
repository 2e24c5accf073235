"""What a command is called in figures, read from its packed payload."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2s
from time import time
from typing import Any, Final

from redisutils._command_table import TABLE
from redisutils.commands import is_blocking, is_container, keys_of, lookup
from redisutils.connection.packing import unpack
from redisutils.metrics.slow import SlowCommand
from redisutils.metrics.split import Split

__all__ = ["OTHER", "blocks", "command_name", "hashed", "slow_command"]

OTHER: Final = "OTHER"
"""What the table of commands does not know: what callers send there shall not make names."""

_KEY_SHOWN: Final = 200
"""Bytes of a key that are shown."""

_BLOCKING: Final = frozenset(name for name, row in TABLE.items() if row.timeout is not None)

_KEY_TAKEN: Final = 1024
"""Bytes of a key that its hash is made of."""

_LOOKED_AT: Final = 16
"""Commands of a batch, and words of a command, among which the key is looked for."""

_CRLF: Final = b"\r\n"


def command_name(payload: bytes, batch: bool = False) -> str:
    """``GET``, ``CLIENT LIST``; ``PIPELINE`` or ``TRANSACTION`` for a batch; else ``OTHER``.

    O(1), about a microsecond.
    """
    name, end = _word(payload, payload.index(_CRLF) + 2)
    if batch:
        return "TRANSACTION" if name == b"MULTI" else "PIPELINE"
    command = lookup((name,))
    if is_container(command.name) and end < len(payload):
        command = lookup((name, _word(payload, end)[0]))
    return command.name if command.known else OTHER


def _word(payload: bytes, at: int) -> tuple[bytes, int]:
    """The argument that begins at ``at``, and where the next does."""
    end = payload.index(_CRLF, at)
    begin = end + 2
    end = begin + int(payload[at + 1 : end])
    return payload[begin:end], end + 2


def blocks(name: str, payload: bytes) -> bool:
    """Whether this command may wait on the server for others, as its caller wishes. O(1), but for
    those few that may."""
    if name not in _BLOCKING:
        return False
    words = unpack(payload)[0]
    return is_blocking(lookup(words), words)


def _beginnings(payload: bytes) -> Iterator[list[bytes]]:
    """Of the first commands in a payload the first words, each as far as a key is taken."""
    at = 0
    for _ in range(_LOOKED_AT):
        if at >= len(payload):
            return
        end = payload.index(_CRLF, at)
        count, at = int(payload[at + 1 : end]), end + 2
        words = []
        for _ in range(min(count, _LOOKED_AT)):
            end = payload.index(_CRLF, at)
            begin = end + 2
            at = begin + int(payload[at + 1 : end]) + 2
            words.append(payload[begin : min(at - 2, begin + _KEY_TAKEN)])
        yield words
        if count > len(words):
            return  # where the next begins would have to be looked for


def slow_command(
    name: str, payload: bytes, answer: Any, split: Split, *, server: str, plain: bool
) -> SlowCommand:
    """What the log of slow commands keeps of one. O(1), however long the payload.

    Args:
        server: who answered.
        plain: whether its key may be read there; otherwise a hash of it stands in its place.
    """
    key = next((key for words in _beginnings(payload) for key in keys_of(words)), None)
    shown = None
    if key is not None:
        shown = key[:_KEY_SHOWN].decode("utf-8", "backslashreplace") if plain else hashed(key)
    sized = isinstance(answer, bytes | str | list | dict | set)
    return SlowCommand(
        at=time(),
        command=name,
        key=shown,
        request_bytes=len(payload),
        reply_size=len(answer) if sized else None,
        seconds=split.total,
        split=split,
        server=server,
    )


def hashed(key: bytes) -> str:
    """A key as it is shown where it must not be read: ``#`` and ten hexadecimal digits of its
    BLAKE2s digest. The same key has the same ones everywhere."""
    return "#" + blake2s(key, digest_size=5).hexdigest()
