"""What one call of a command is, with its arguments: whether it may be repeated, what it waits for,
and which keys it names."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from redis.typing import EncodableT

from redisutils.commands.command import Command, lookup
from redisutils.commands.words import encoded, folded, number, split

__all__ = ["block_timeout", "is_blocking", "is_repeatable", "keys_of", "may_write"]

# Those that may be repeated.
_KEYLESS_WRITES: Final = frozenset(
    {
        "CLIENT SETINFO", "CLIENT SETNAME", "CONFIG SET", "FUNCTION LOAD", "FUNCTION RESTORE",
        "MEMORY PURGE", "SCRIPT LOAD",
    }
)  # fmt: skip

_BRACKETS: Final = frozenset({"MULTI", "EXEC", "WATCH", "UNWATCH", "DISCARD"})


def may_write(args: Sequence[EncodableT]) -> bool:
    """Whether this call may change data, tell others something or have another lasting effect.
    True for what is not known."""
    command = lookup(args)
    if command.readonly or command.name in _BRACKETS:
        return False
    if command.name in _KEYLESS_WRITES:
        return True
    # Without a key, what else may be repeated only asks: PING, INFO, CLIENT LIST.
    return not is_repeatable(command, args) or bool(keys_of(args))


def is_repeatable(command: Command, args: Sequence[EncodableT]) -> bool:
    """Whether this call may be sent again after its reply was lost.

    True if executing it twice in a row has the same effect and the same reply as executing
    it once. Errs towards False: a value that looks like an option may count as one.

    Args:
        command: What ``lookup(args)`` answered.
        args: The call, name first.
    """
    if command.repeatable:
        return True
    # Asked before every write is sent: a write that never is, and SET without options, are
    # to be quick.
    unless, needs, rule = command.repeatable_unless, command.repeatable_needs, command.repeat_rule
    if not (unless or needs or rule):
        return False
    args = split(args)
    if needs or (unless and len(args) > command.options_from):
        options = args[command.options_from :]
        words = {folded(word) for word in options if not isinstance(word, int)}
        if not words.isdisjoint(unless) or (needs and words.isdisjoint(needs)):
            return False
    return not rule or _RULES[rule](args)


def is_blocking(command: Command, args: Sequence[EncodableT]) -> bool:
    """Whether this call may wait on the server for others, and so needs its own connection.

    XREAD and XREADGROUP wait only with BLOCK, the others always. Arguments as for
    :func:`is_repeatable`.
    """
    if not command.blocking:
        return False
    return command.timeout_at != 0 or _find(b"BLOCK", split(args), 1) is not None


def block_timeout(command: Command, args: Sequence[EncodableT]) -> float | None:
    """How long the server may wait before it answers this call, in seconds.

    None: for ever, which is what a timeout of 0 means to all of these commands. 0.0: not
    at all, for calls that do not block and for timeouts that the server refuses at once
    (missing, negative, not a number). Arguments as for :func:`is_repeatable`.
    """
    if not command.blocking:
        return 0.0
    args = split(args)
    at = command.timeout_at
    if at == 0:
        block = _find(b"BLOCK", args, 1)
        if block is None:
            return 0.0
        at = block + 1
    value = number(args[at]) if -len(args) < at < len(args) else None
    if value is None or value < 0:
        return 0.0
    return value * command.timeout_unit or None


def keys_of(args: Sequence[EncodableT]) -> tuple[bytes, ...]:
    """The keys that this call names, in the order of COMMAND GETKEYS; str as UTF-8.

    Keys that are there several times are listed several times. Shard channels (SPUBLISH,
    SSUBSCRIBE) count as keys, since they are routed as keys are. Of an unknown command the
    first argument is taken for its key. Patterns for keys (SORT ... BY) are none. Empty
    where the server would refuse the call because its keys cannot be counted. With an
    encoding other than UTF-8, give keys as bytes.
    """
    command = lookup(args)
    args = split(args)
    if command.last_key == 1 and not command.keys_after and command.numkeys is None:
        return (encoded(args[1]),) if len(args) > 1 else ()
    return tuple([encoded(args[at]) for at in _key_positions(command, args)])


def _key_positions(command: Command, args: Sequence[EncodableT]) -> Iterator[int]:
    """See redis.io/docs/latest/develop/reference/key-specs."""
    count = len(args)
    listed: list[range] = []
    for word, start, last, share in command.keys_after:
        at = _find(word, args, start)
        if at is not None:
            first = at + 1
            end = first + last if last >= 0 else count + last
            if share > 1:
                end = first + (count - first) // share + last
            listed.append(range(first, min(end + 1, count)))
    # MIGRATE has either one key at its place or an empty one and a list at the end
    # (redis.io/commands/migrate).
    if command.first_key and not (command.name == "MIGRATE" and listed):
        last = command.last_key if command.last_key >= 0 else count + command.last_key
        yield from range(command.first_key, min(last + 1, count), command.step)
    if command.numkeys is not None:
        at, step = command.numkeys
        keys = number(args[at]) if at < count else None
        first = at + 1
        if keys is not None and first + (keys - 1) * step < count:
            yield from range(first, first + int(keys) * step, step)
    for positions in listed:
        yield from positions


# Options that are followed by arguments, which could look like the word that is searched
# for; of all commands with keys or a timeout after a word (XREAD, XREADGROUP, SORT, GEORADIUS,
# MIGRATE, TS.READ), among which none means two things.
_ARGUMENTS_AFTER: Final = {
    b"AUTH": 1,
    b"AUTH2": 2,
    b"BLOCK": 1,
    b"BY": 1,
    b"CLAIM": 1,
    b"COUNT": 1,
    b"GET": 1,
    b"GROUP": 2,
    b"LIMIT": 2,
}


def _find(wanted: bytes, args: Sequence[EncodableT], start: int) -> int | None:
    """Where the option ``wanted`` stands, from ``start`` on. After STREAMS come no options."""
    at = start
    while at < len(args):
        word = folded(args[at])
        if word == wanted:
            return at
        if word == b"STREAMS":
            return None
        at += 1 + _ARGUMENTS_AFTER.get(word, 0)
    return None


# A repeated EXPIRE answers as the first one did if the key is still there: if what it sets
# is longer than a command and its retries can take. Points in time are the server's, whose
# clock may be off from ours by much more.
_LONG: Final = 60.0
_CLOCKS_APART: Final = 3600.0


def _lives(unit: float) -> Callable[[Sequence[EncodableT]], bool]:
    def rule(args: Sequence[EncodableT]) -> bool:
        value = number(args[2]) if len(args) > 2 else None
        return value is not None and value * unit >= _LONG

    return rule


def _lives_until(unit: float) -> Callable[[Sequence[EncodableT]], bool]:
    def rule(args: Sequence[EncodableT]) -> bool:
        value = number(args[2]) if len(args) > 2 else None
        return value is not None and value * unit >= time.time() + _CLOCKS_APART

    return rule


def _destination_apart(args: Sequence[EncodableT]) -> bool:
    destination, *sources = keys_of(args) or (b"",)
    return destination not in sources


def _keeps_an_end(args: Sequence[EncodableT]) -> bool:
    """LTRIM to so many from the left, or so many from the right."""
    if len(args) < 4:
        return False
    start, stop = number(args[2]), number(args[3])
    if start is None or stop is None:
        return False
    return (start == 0 and stop >= 0) or (start < 0 and stop == -1)


_RULES: Final[dict[str, Callable[[Sequence[EncodableT]], bool]]] = {
    "lives-seconds": _lives(1.0),
    "lives-milliseconds": _lives(0.001),
    "lives-until-seconds": _lives_until(1.0),
    "lives-until-milliseconds": _lives_until(0.001),
    "destination-apart": _destination_apart,
    "keeps-an-end": _keeps_an_end,
}
