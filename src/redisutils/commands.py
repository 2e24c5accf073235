"""What a command is: read-only, repeatable, blocking, stateful, and where its keys are.

``lookup(args)`` finds a command by its name in any spelling; the other functions
judge one call of it, with its arguments. The facts stand in ``_command_table``, which
a script writes from live servers; what *repeatable* and *stateful* mean is argued there.

Arguments are as redis-py's ``execute_command`` takes them: the name first, in any case,
as str or bytes, ``"CLIENT LIST"`` in one string or ``"CLIENT", "LIST"`` in two. Nothing
here refuses arguments: what is wrong with them is for the packer and the server to say.
Words are compared as the server does, without regard to case.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from redis.typing import EncodableT

from redisutils._command_table import TABLE, Row

__all__ = [
    "Command",
    "block_timeout",
    "is_blocking",
    "is_container",
    "is_repeatable",
    "is_unanswered",
    "keys_of",
    "lookup",
    "may_write",
]

_S = TypeVar("_S", str, bytes)


@dataclass(frozen=True, slots=True)
class Command:
    """One command, whatever its arguments. Positions count from its name, argument 0."""

    name: str
    """In capitals: ``"GET"``, ``"CLIENT LIST"``."""

    known: bool = True
    """False for one that the table does not have (a module's, a newer server's). It is
    taken for a write that is not repeatable, not stateful and does not block, with
    its key first."""

    readonly: bool = False
    """The server flags it as reading keys without changing any."""

    repeatable: bool = False
    """Executed twice in a row it has the same effect and the same reply as once, whatever
    its arguments. :func:`is_repeatable` judges those where it depends on them."""

    repeatable_unless: frozenset[bytes] = frozenset()
    """Option words that make it not repeatable."""

    repeatable_needs: frozenset[bytes] = frozenset()
    """Option words of which one makes it repeatable."""

    options_from: int = 0
    """Where these words may begin."""

    repeat_rule: str = ""
    """The name of a further condition on its arguments for being repeatable."""

    blocking: bool = False
    """It may wait for others; :func:`is_blocking` says whether one call of it does."""

    timeout_at: int = 0
    """Of a blocking command: where its timeout stands (negative: from the end; 0: after the
    word BLOCK, without which it does not block)."""

    timeout_unit: float = 1.0
    """Seconds in one unit of its timeout."""

    stateful: bool = False
    """It changes its connection, or means something only together with what went before
    on it: not for a connection that others share."""

    advice: str = ""
    """Of a stateful command: what to do instead."""

    first_key: int = 0
    """Position of the first key; 0: it has none, or none at a fixed position."""

    last_key: int = 0
    """Position of the last key; negative: from the end."""

    step: int = 0
    """From one key to the next."""

    numkeys: tuple[int, int] | None = None
    """Where the number of keys stands that follow it, and the step between those."""

    keys_after: tuple[tuple[bytes, int, int, int], ...] = ()
    """Keys after a word: the word, where to begin looking for it, the last of them
    (relative to the first; negative: from the end), and n if only the first n-th
    of what follows the word are keys."""

    subcommands: Mapping[bytes, Command] | None = field(default=None, repr=False, compare=False)
    """Of a container such as CLIENT; under ``b""`` the container by itself, which also stands
    for subcommands that the table does not have. ``lookup`` looks into it for you."""


_OWN = "take a connection of your own: async with pool.get() as conn"

_ADVICE: Final = {
    "own": _OWN,
    "auth": "put username and password into the configuration: create_redis_pool(username=…,"
    " password=…); connections authenticate by themselves",
    "select": "make a client with another database: create_redis_pool(database=…)",
    "watch": "use pipeline() and its watch(), which take a connection of their own, or"
    " async with pool.get() as conn",
    "transaction": "use pipeline(transaction=True), or " + _OWN,
    "subscribe": "use client.pubsub(), which takes a connection of its own",
    "monitor": "use client.monitor(), which takes a connection of its own",
    "close": "use the client's or the pool's close; to reset a single connection, " + _OWN,
    "wait": "it waits for the writes of its own connection: take one with"
    " async with pool.get() as conn, and write and wait there",
    "cluster": "routing to replicas and to moving slots is the client's work; for your own, "
    + _OWN,
    "replication": "it turns its connection into a replication channel: "
    "open one with pool.get() and detach it with take()",
}


def _build(name: str, row: Row) -> Command:
    options_from, words = row.unless or row.needs or (0, "")
    options = frozenset(words.encode().split())
    at, unit = row.timeout or (0, 1.0)
    return Command(
        name=name,
        readonly=row.readonly,
        repeatable=row.readonly or row.repeatable,
        repeatable_unless=options if row.unless else frozenset(),
        repeatable_needs=options if row.needs else frozenset(),
        options_from=options_from,
        repeat_rule=row.rule,
        blocking=row.timeout is not None,
        timeout_at=at,
        timeout_unit=unit,
        stateful=bool(row.stateful),
        advice=_ADVICE[row.stateful] if row.stateful else "",
        first_key=row.keys[0],
        last_key=row.keys[1],
        step=row.keys[2],
        numkeys=row.numkeys,
        keys_after=tuple((word.encode(), start, last, n) for word, start, last, n in row.after),
    )


# Built when first asked for, which keeps the import short.
_COMMANDS: Final[dict[str, Command]] = {}


def _command(name: str) -> Command | None:
    """The table's command of that one word. O(table) the first time, for its subcommands."""
    command = _COMMANDS.get(name)
    if command is None and name in TABLE:
        command = _build(name, TABLE[name])
        prefix = name + " "
        below = {
            full.removeprefix(prefix).encode(): _build(full, row)
            for full, row in TABLE.items()
            if full.startswith(prefix)
        }
        if below:
            command = replace(command, subcommands={**below, b"": command})
        _COMMANDS[name] = command
    return command


# Spellings met so far. str and bytes apart: the hashes of "GET" and b"GET" are equal, so in
# one dict each would cost the other a comparison (and a BytesWarning under -b).
_STR: Final[dict[str, Command]] = {}
_BYTES: Final[dict[bytes, Command]] = {}

# Bounds for what callers can make us remember. Four times the names there are; when full,
# all is forgotten, so that a flood of odd names cannot keep the ordinary ones out.
_MAX_SPELLINGS: Final = 2048
_MAX_SPELLING: Final = 64


def lookup(args: Sequence[EncodableT]) -> Command:
    """The command that ``args`` calls.

    Complexity: one dict lookup for a name met before in this spelling, another for a
    subcommand given as an argument of its own. An unknown subcommand gets its
    container's entry, an unknown name (an empty call too) one with ``known=False``.
    """
    try:
        name = args[0]
    except IndexError:
        return Command("", known=False)
    if type(name) is str:
        found = _STR.get(name)
    elif type(name) is bytes:
        found = _BYTES.get(name)
    else:
        found = None
    if found is None:
        found = _learn(name)
    if found.subcommands is None:
        return found
    word = _fold(args[1]) if len(args) > 1 else b""
    return found.subcommands.get(word) or found.subcommands[b""]


_UNANSWERED: Final = frozenset(
    {
        "SUBSCRIBE", "PSUBSCRIBE", "SSUBSCRIBE", "UNSUBSCRIBE", "PUNSUBSCRIBE", "SUNSUBSCRIBE",
        "MONITOR", "SYNC", "PSYNC", "CLIENT REPLY",
    }
)  # fmt: skip


def is_unanswered(command: Command) -> bool:
    """Whether the server answers it with something else than one reply: with push messages, with
    more of them without end, or not at all. Nobody could tell whose a reply after it is."""
    return command.name in _UNANSWERED


def is_container(name: str) -> bool:
    """Whether commands begin with this word that are told apart by the next, as CLIENT LIST is."""
    found = _command(name.upper())
    return found is not None and found.subcommands is not None


def _learn(name: EncodableT) -> Command:
    """The slow path of :func:`lookup`: a spelling met for the first time, or an odd type."""
    words = _fold(name).split()
    shown = (words[0] if words else b"")[:_MAX_SPELLING].decode(errors="replace")
    found = _command(shown)
    if found is None:
        found = Command(shown, known=False, first_key=1, last_key=1, step=1)
    elif found.subcommands is not None and len(words) > 1:
        found = found.subcommands.get(words[1]) or found.subcommands[b""]
    if type(name) is str:
        _remember(_STR, name, found)
    elif type(name) is bytes:
        _remember(_BYTES, name, found)
    return found


def _remember(spellings: dict[_S, Command], name: _S, command: Command) -> None:
    if len(name) <= _MAX_SPELLING:
        if len(spellings) >= _MAX_SPELLINGS:
            spellings.clear()
        spellings[name] = command


_BRACKETS: Final = frozenset({"MULTI", "EXEC", "WATCH", "UNWATCH", "DISCARD"})


def may_write(args: Sequence[EncodableT]) -> bool:
    """Whether this call may change data, tell others something or have another lasting effect.
    True for what is not known."""
    command = lookup(args)
    if command.readonly or command.name in _BRACKETS:
        return False
    # Without a key, what may be repeated only asks: PING, INFO, CLIENT LIST.
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
    args = _split(args)
    if needs or (unless and len(args) > command.options_from):
        options = args[command.options_from :]
        words = {_fold(word) for word in options if not isinstance(word, int)}
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
    return command.timeout_at != 0 or _find(b"BLOCK", _split(args), 1) is not None


def block_timeout(command: Command, args: Sequence[EncodableT]) -> float | None:
    """How long the server may wait before it answers this call, in seconds.

    None: for ever, which is what a timeout of 0 means to all of these commands. 0.0: not
    at all, for calls that do not block and for timeouts that the server refuses at once
    (missing, negative, not a number). Arguments as for :func:`is_repeatable`.
    """
    if not command.blocking:
        return 0.0
    args = _split(args)
    at = command.timeout_at
    if at == 0:
        block = _find(b"BLOCK", args, 1)
        if block is None:
            return 0.0
        at = block + 1
    value = _number(args[at]) if -len(args) < at < len(args) else None
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
    args = _split(args)
    if command.last_key == 1 and not command.keys_after and command.numkeys is None:
        return (_bytes(args[1]),) if len(args) > 1 else ()
    return tuple([_bytes(args[at]) for at in _key_positions(command, args)])


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
        number = _number(args[at]) if at < count else None
        first = at + 1
        if number is not None and first + (number - 1) * step < count:
            yield from range(first, first + int(number) * step, step)
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
        word = _fold(args[at])
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
        value = _number(args[2]) if len(args) > 2 else None
        return value is not None and value * unit >= _LONG

    return rule


def _lives_until(unit: float) -> Callable[[Sequence[EncodableT]], bool]:
    def rule(args: Sequence[EncodableT]) -> bool:
        value = _number(args[2]) if len(args) > 2 else None
        return value is not None and value * unit >= time.time() + _CLOCKS_APART

    return rule


def _destination_apart(args: Sequence[EncodableT]) -> bool:
    destination, *sources = keys_of(args) or (b"",)
    return destination not in sources


def _keeps_an_end(args: Sequence[EncodableT]) -> bool:
    """LTRIM to so many from the left, or so many from the right."""
    if len(args) < 4:
        return False
    start, stop = _number(args[2]), _number(args[3])
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


def _split(args: Sequence[EncodableT]) -> Sequence[EncodableT]:
    """``args`` with each word of the name an argument of its own, as they go to the server."""
    if not args or (isinstance(args[0], (str, bytes)) and args[0].isalpha()):
        return args
    words = _bytes(args[0]).split()
    return args if len(words) < 2 else (*words, *args[1:])


def _bytes(value: EncodableT) -> bytes:
    """``value`` as it goes to the server; of what cannot go there, anything."""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    return repr(value).encode("utf-8", "surrogatepass")


def _fold(value: EncodableT) -> bytes:
    """A word as names and options are compared: in capitals, ASCII's only."""
    return _bytes(value).upper()


def _number(value: EncodableT) -> float | None:
    """A finite number, or None. Whole numbers stay exact as far as any count or time needs."""
    try:
        number = float(_bytes(value))
    except ValueError:
        return None
    return number if math.isfinite(number) else None
