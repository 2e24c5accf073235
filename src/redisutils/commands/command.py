"""What a command is, whatever its arguments, and how it is found by its name in any spelling.

The facts stand in ``_command_table``, which a script writes from live servers; what *repeatable*
and *stateful* mean is argued there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, TypeVar

from redis.typing import EncodableT

from redisutils._command_table import TABLE, Request, Response, Row
from redisutils.commands.words import folded

__all__ = ["Command", "is_container", "is_unanswered", "lookup"]

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

    request: Request = ""
    """Which nodes of a cluster it is for, beyond what follows from its keys: its request policy,
    see redis.io/docs/latest/develop/reference/command-tips."""

    response: Response = ""
    """What the answers of several nodes make together: its response policy, ibid."""

    subcommands: Mapping[bytes, Command] | None = field(default=None, repr=False, compare=False)
    """Of a container such as CLIENT; under ``b""`` the container by itself, which also stands
    for subcommands that the table does not have. ``lookup`` looks into it for you."""

    @property
    def taints(self) -> bool:
        """Whether its connection is not what it was, and for nobody else afterwards. (What
        recycling undoes, such as WATCH, is among them.)"""
        return self.stateful and self.name not in WAITING

    @property
    def read_anywhere(self) -> bool:
        """Whether any server that has a copy of the data can answer it as well as its primary."""
        return self.readonly and self.name not in _OF_ONE_SERVER


WAITING: Final = frozenset({"WAIT", "WAITAOF"})
"""What is told of the writes of its own connection (https://valkey.io/commands/wait/), and changes
nothing about it."""

_OF_ONE_SERVER: Final = frozenset(
    {
        "SCAN", "HSCAN", "SSCAN", "ZSCAN", "CLUSTERSCAN",
        "TOUCH", "OBJECT FREQ", "OBJECT IDLETIME",
    }
)  # fmt: skip
"""What is flagged as reading and yet is about one server. A cursor means nothing to another: each
hashes with a seed of its own (https://valkey.io/commands/scan/), so that a scan which goes on
elsewhere leaves elements out. And when a key was used last is known where it was used
(https://valkey.io/commands/touch/): what is touched at a replica is evicted by its primary."""


_OWN = "take a connection of your own: async with pool.get() as conn"

_ADVICE: Final = {
    "own": _OWN,
    "auth": "put username and password into the configuration: create_redis_pool(username=…,"
    " password=…); connections authenticate by themselves",
    "select": "make a client with another database: create_redis_pool(database=…); a cluster has"
    " database 0 alone, unless it is Valkey 9 or newer with cluster-databases set",
    "watch": "use pipeline() and its watch(), which take a connection of their own, or"
    " async with pool.get() as conn",
    "transaction": "use pipeline(transaction=True), or " + _OWN,
    "subscribe": "use client.pubsub(), which takes a connection of its own",
    "monitor": "use client.monitor(), which takes a connection of its own",
    "close": "use the client's or the pool's close; to reset a single connection, " + _OWN,
    "wait": "it waits for the writes of its own connection: take one with"
    " async with pool.get(key=…) as conn, and write and wait there",
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
        request=row.request,
        response=row.response,
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
    word = folded(args[1]) if len(args) > 1 else b""
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
    words = folded(name).split()
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
