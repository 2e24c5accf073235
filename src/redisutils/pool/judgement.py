"""Which commands may be sent again, judged by what they are: by a reply's payload."""

from __future__ import annotations

from typing import Final

from redisutils.commands import is_blocking, is_repeatable, lookup
from redisutils.connection.packing import unpack
from redisutils.connection.reply import Reply

__all__ = ["blocks", "refused_by_the_server", "repeatable"]

_RUNS_CODE: Final = frozenset({"EVAL", "EVALSHA", "FCALL"})

_BRACKETS: Final = (b"MULTI", b"EXEC")
"""What a transaction is wrapped in: it may be repeated if all that is within may."""


def refused_by_the_server(reply: Reply) -> bool:
    """Whether an error with a server's code can only be the server's own. A script, a function or a
    module may answer BUSY or LOADING as well, after it has done a part of its work."""
    commands = map(lookup, unpack(reply.payload))
    return all(command.known and command.name not in _RUNS_CODE for command in commands)


def blocks(reply: Reply) -> bool:
    """Whether the server may be waiting for others before it answers."""
    return any(is_blocking(lookup(words), words) for words in unpack(reply.payload))


def repeatable(reply: Reply) -> bool:
    """Whether executing it again has the same effect and the same answer as executing it once."""
    return all(
        bool(words) and (words[0] in _BRACKETS or is_repeatable(lookup(words), words))
        for words in unpack(reply.payload)
    )
