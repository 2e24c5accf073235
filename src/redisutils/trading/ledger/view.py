"""What an intent sees of the account while it decides, and where it puts what it decided.

It sees what those before it in the same group decided, though nothing of it is written yet.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Set
from typing import Any, Generic, NamedTuple, TypeVar

from redisutils.trading.codec import Codec, Record
from redisutils.trading.errors import UnreadableRecord

__all__ = [
    "ABSENT",
    "Cache",
    "Field",
    "Kind",
    "Missing",
    "Stored",
    "View",
    "Words",
    "stored_as",
    "unreadable",
]

R = TypeVar("R", bound=Record)
Words = tuple[bytes | str | int, ...]
Field = tuple[str, str]
"""A key and a field of the hash under it; with "" as the field, the key is a string."""


class Kind(Generic[R]):
    """A kind of versioned record.

    :param codec: how it is written.
    :param indexed: what else changes with it, called with the key, and the record before and after
        a group: puts commands into the view.
    """

    __slots__ = ("codec", "indexed")

    def __init__(self, codec: Codec[R], indexed: Callable[[View, str, R | None, R], None]) -> None:
        self.codec = codec
        self.indexed = indexed


class Stored(NamedTuple):
    """A record as it is in the store; ``version`` is the name of the commit that wrote it."""

    version: bytes
    record: Any


ABSENT = Stored(b"", None)


def stored_as(kind: Kind[Any], key: str, version: bytes, text: bytes) -> Stored:
    """What was found under a key. If it is no record of ours, only those who need it shall hear of
    it: the error stands in its place."""
    if not version:
        return ABSENT
    try:
        return Stored(version, kind.codec.decode(text, key))
    except UnreadableRecord as error:
        return Stored(b"", error)


def unreadable(key: str, why: object) -> Stored:
    """What is under a key is of another type."""
    return Stored(b"", UnreadableRecord(f"no record of ours under {key}: {why}"))


class Missing(Exception):
    """What an intent needs to have been read before it can decide."""

    def __init__(
        self,
        records: Iterable[tuple[str, Kind[Any]]] = (),
        fields: Iterable[Field] = (),
        lists: Iterable[str] = (),
    ) -> None:
        super().__init__("not read yet")
        self.records = tuple(records)
        self.fields = tuple(fields)
        self.lists = tuple(lists)


class Cache:
    """The records of a ledger that were used last, between ``limit`` and twice as many.

    Two generations: looking up is a dict's get, and forgetting is dropping the older one.
    """

    __slots__ = ("_limit", "_old", "_young")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._young: dict[str, Stored] = {}
        self._old: dict[str, Stored] = {}

    def __len__(self) -> int:
        return len(self._young) + len(self._old)

    def get(self, key: str) -> Stored | None:
        """The record under a key as it was last seen."""
        stored = self._young.get(key)
        if stored is None and (stored := self._old.pop(key, None)) is not None:
            self.put(key, stored)
        return stored

    def put(self, key: str, stored: Stored) -> None:
        """Remember it."""
        if len(self._young) >= self._limit:
            self._old, self._young = self._young, {}
        self._old.pop(key, None)
        self._young[key] = stored

    def learn(self, key: str, stored: Stored) -> None:
        """It was read: remember it, if it is a record."""
        if stored.version:
            self.put(key, stored)
        else:
            self.forget(key)

    def forget(self, key: str) -> None:
        """Read it again next time."""
        self._young.pop(key, None)
        self._old.pop(key, None)


class View:
    """One attempt to decide a group.

    Intents read first and write last: once one has written, it may not raise any more.
    """

    __slots__ = (
        "amended",
        "appended",
        "assumed",
        "changed",
        "commands",
        "events",
        "fields",
        "held",
        "kept",
        "kinds",
        "lasting",
        "lists",
        "named",
        "opened",
        "read",
        "_cache",
        "_fresh",
        "_gone",
        "_known",
    )

    def __init__(
        self,
        cache: Cache,
        fresh: dict[str, Stored],
        known: Mapping[Field, Any],
        gone: Set[str] = frozenset(),
    ) -> None:
        self._cache = cache
        self._fresh = fresh
        self._known = known
        self._gone = gone
        self.fields: dict[Field, bytes | None] = {}
        self.lists: dict[str, tuple[str, ...]] = {}
        self.kinds: dict[str, Kind[Any]] = {}
        self.changed: dict[str, tuple[Stored, Any, bytes]] = {}
        self.named: dict[Field, bytes] = {}
        self.amended: dict[Field, bytes] = {}
        self.held: set[str] = set()
        self.opened: list[tuple[str, str]] = []
        self.appended: dict[str, list[str]] = {}
        self.kept: dict[str, int] = {}
        self.lasting: dict[str, None] = {}
        self.events: list[tuple[str, int, Words]] = []
        self.commands: list[tuple[str, str, Words]] = []
        self.read: dict[str, Kind[Any]] = {}
        """What the present intent has read."""
        self.assumed: list[Field] = []
        """What it has taken for unused without reading."""

    # -- reading -------------------------------------------------------------------------

    def record(self, kind: Kind[R], key: str) -> R | None:
        """The record under a key, None if there is none.

        :raises Missing: it has to be read first.
        """
        self.read[key] = kind
        changed = self.changed.get(key)
        if changed is not None:
            return changed[1]  # type: ignore[no-any-return]  # a key has records of one kind
        stored = self._fresh.get(key) or self._cache.get(key)
        if stored is None:
            raise Missing([(key, kind)])
        if isinstance(stored.record, UnreadableRecord):
            raise stored.record
        return stored.record  # type: ignore[no-any-return]  # a key has records of one kind

    def peek(self, key: str) -> Any:
        """The record under a key, None if there is none or it was not read yet."""
        changed = self.changed.get(key)
        if changed is not None:
            return changed[1]
        stored = self._fresh.get(key) or self._cache.get(key)
        return None if stored is None else stored.record

    def knows(self, key: str) -> bool:
        """Whether a record was read, here or before."""
        return key in self._fresh or self._cache.get(key) is not None

    def learn(self, key: str, stored: Stored) -> None:
        """A record was read."""
        self._fresh[key] = stored

    def distrust(self) -> None:
        """Records are read anew: what was read before them has to be, too. What is read after a
        record is at least as new, and if it is newer, the record's version tells."""
        self.fields.clear()
        self.lists = {key: names for key, names in self.lists.items() if key in self.held}

    def field(self, key: str, field: str = "") -> bytes | None:
        """What stands in a field (see :data:`Field`), None if nothing does.

        :raises Missing: it has to be read first.
        """
        at = key, field
        if named := self.named.get(at) or self.amended.get(at):
            return named
        if at not in self.fields:
            raise Missing(fields=[at])
        return self.fields[at]

    def taken(self, key: str, field: str = "") -> bytes | None:
        """As :meth:`field`, but what was not read is taken for unused: if it is used, the script
        says so, and the group is decided again."""
        at = key, field
        self.assumed.append(at)
        return self.named.get(at) or self._known.get(at) or self.fields.get(at)

    def absent(self, key: str, field: str = "") -> None:
        """What is decided rests on this being unused, and does not use it."""
        self.named.setdefault((key, field), b"")

    def gone(self, key: str) -> bool:
        """Whether a key that was to :meth:`last` has gone. What was not found out is taken for
        not: if it has, the script says so, and the group is decided again."""
        return key in self._gone

    def list(self, key: str) -> tuple[str, ...]:
        """A list of names.

        :raises Missing: it has to be read first.
        """
        if key not in self.lists:
            raise Missing(lists=[key])
        return (*self.lists[key], *self.appended.get(key, ()))

    def hold(self, key: str) -> None:
        """Read a list, and keep what was read for the commit."""
        self.list(key)
        self.held.add(key)

    def hint(self, key: str) -> str | None:
        """A string that never changes, as it was seen last; it may be gone by now."""
        stored = self._cache.get(key)
        return None if stored is None else stored.record

    def begin(self) -> None:
        """Another intent decides, or the same again."""
        self.read.clear()
        self.assumed.clear()

    def stale(self) -> Missing | None:
        """What the present intent has read that may have changed since it was seen in the store, or
        has not read at all, and that nothing in this group would tell."""
        records = [
            (key, kind)
            for key, kind in self.read.items()
            if key not in self._fresh and key not in self.changed
        ]
        fields = [at for at in self.assumed if at not in self.fields and not self.named.get(at)]
        return Missing(records, fields) if records or fields else None

    # -- writing -------------------------------------------------------------------------

    def put(self, kind: Kind[R], key: str, record: R) -> bytes:
        """Change a record that was read before; as what it is written."""
        changed = self.changed.get(key)
        base = changed[0] if changed else self._fresh.get(key) or self._cache.get(key) or ABSENT
        text = kind.codec.encode(record)
        self.changed[key] = base, record, text
        self.kinds[key] = kind
        return text

    def name(self, key: str, field: str, value: bytes) -> None:
        """Set a field (see :data:`Field`) that is to be unused until then."""
        self.named[key, field] = value

    def amend(self, key: str, field: str, value: bytes) -> None:
        """Set a field that is there. The version of a record that changes with it guards it."""
        if (key, field) in self.named:
            self.named[key, field] = value
        else:
            self.amended[key, field] = value

    def remember(self, key: str, value: str) -> None:
        """Let :meth:`hint` know a string that never changes."""
        self._cache.put(key, Stored(b"", value))

    def append(self, key: str, name: str) -> None:
        """Add to a list of names."""
        self.appended.setdefault(key, []).append(name)

    def keep(self, key: str, seconds: int) -> None:
        """Let a key live so long from now on."""
        self.kept[key] = seconds

    def last(self, key: str) -> None:
        """Let it be known for ever that a key is there: what is decided rests on its not having
        gone since it first was."""
        self.lasting[key] = None

    def open(self, key: str, member: str) -> None:
        """Add to a sorted set, after all that is in it."""
        self.opened.append((key, member))

    def event(self, history: str, few: int, *words: bytes | str) -> None:
        """Tell something: fields and values.

        :param history: also into this list, but there only the values among the first ``few``
            words; or "".
        """
        self.events.append((history, few, words))

    def command(self, name: str, key: str, *words: bytes | str | int) -> None:
        """Do this with the rest, after it."""
        self.commands.append((name, key, words))
