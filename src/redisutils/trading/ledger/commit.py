"""From what a group decided to the arguments of ``ledger.lua``, and from its reply back."""

from __future__ import annotations

from typing import Any, NamedTuple

from redisutils.trading.ledger.keys import Keys
from redisutils.trading.ledger.naming import unique_name
from redisutils.trading.ledger.view import Field, Kind, Stored, View, stored_as

__all__ = ["Commit", "Conflicts", "commit_of"]


class Conflicts(NamedTuple):
    """What was otherwise than it was taken for."""

    records: dict[str, Stored]
    fields: dict[Field, bytes]
    gone: set[str]


class Commit:
    """The keys and arguments of one run of the script; ``name`` is what its records' versions
    are."""

    __slots__ = ("_kinds", "_lasting", "_names", "_places", "_records", "arguments", "keys", "name")

    def __init__(self, keys: Keys, name: bytes) -> None:
        self.name = name
        self.keys: list[str] = [keys.events, keys.meta]
        self.arguments: list[Any] = [name]
        self._places: dict[str, int] = {keys.events: 1, keys.meta: 2}
        self._records: list[str] = []
        self._names: list[Field] = []
        self._lasting: list[str] = []
        self._kinds: dict[str, Kind[Any]] = {}

    def place(self, key: str) -> int:
        """A key's place among KEYS."""
        place = self._places.get(key)
        if place is None:
            self.keys.append(key)
            place = self._places[key] = len(self.keys)
        return place

    def conflicts(self, reply: list[Any]) -> Conflicts:
        """What the script found instead."""
        records: dict[str, Stored] = {}
        fields: dict[Field, bytes] = {}
        gone: set[str] = set()
        for place, *found in reply[1:]:
            if place > 0:
                key = self._records[place - 1]
                version, text = found
                records[key] = stored_as(self._kinds[key], key, version, text)
            elif place < 0:
                fields[self._names[-place - 1]] = found[0]
            else:
                gone.add(self._lasting[found[0] - 1])
        return Conflicts(records, fields, gone)


def commit_of(view: View, keys: Keys, outbox: int) -> Commit:
    """What to run the script with.

    :param outbox: about how many events are kept.
    """
    for key, (base, record, _) in view.changed.items():
        view.kinds[key].indexed(view, key, base.record, record)
    for (key, field), value in view.amended.items():
        view.command("HSET", key, field, value)
    for key, names in view.appended.items():
        view.command("RPUSH", key, *names)
    for key, seconds in view.kept.items():
        view.command("EXPIRE", key, seconds)
    commit = Commit(keys, unique_name().encode())
    place, add = commit.place, commit.arguments.extend
    commit._kinds = view.kinds
    commit._records = list(view.changed)
    commit._names = list(view.named)
    commit._lasting = list(view.lasting)

    add((len(view.changed),))
    for key, (base, _, text) in view.changed.items():
        add((place(key), base.version, text))
    add((len(view.named),))
    for (key, field), value in view.named.items():
        add((place(key), field, value))
    add((len(view.lasting),))
    for key in view.lasting:
        add((place(key), key.removeprefix(keys.base)))
    add((len(view.events), outbox))
    for history, few, words in view.events:
        add((place(history) if history else 0, few, len(words), *words))
    add((len(view.opened),))
    for key, member in view.opened:
        add((place(key), member))
    add((len(view.commands),))
    for name, key, command_words in view.commands:
        add((len(command_words), name, place(key), *command_words))
    return commit
