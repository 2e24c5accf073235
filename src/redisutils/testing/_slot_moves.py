"""Moving many slots at once, as quickly as the servers let one."""

from __future__ import annotations

from collections.abc import Sequence

from ._asking import Word, ask_all, ask_in_parallel
from .migration import migrate_command
from .server import EmbeddedServer

__all__ = ["batches", "move_slots"]

# How many slots are half-way at a time: few enough that a move of thousands is seen by clients as
# many small ones, and enough that round trips do not count.
_AT_A_TIME = 128

# How many keys of a slot one MIGRATE carries.
_KEYS = 1000

# A Valkey that has replicas answers CLUSTER SETSLOT only when they have it, one after the other
# for each connection.
_CONNECTIONS = 32

_Named = tuple[EmbeddedServer, str]


def batches(slots: Sequence[int]) -> list[Sequence[int]]:
    """Slots in the portions in which they are moved."""
    return [slots[at : at + _AT_A_TIME] for at in range(0, len(slots), _AT_A_TIME)]


def move_slots(
    slots: Sequence[int], source: _Named, target: _Named, others: Sequence[EmbeddedServer]
) -> None:
    """Move one portion of slots with their keys, and tell ``others`` the new owner; blocking.

    :param source: the owner of all of them, and its id.
    :param target: the new owner, and its id.
    """
    _set(target[0], slots, "IMPORTING", source[1])
    _set(source[0], slots, "MIGRATING", target[1])
    while keys := _keys_of(source[0], slots):
        # From now on no key is made there any more: this comes to its end.
        ask_all(source[0], *(migrate_command(target[0], of_slot) for of_slot in keys))
    # The target first: were it the other way round, nobody would own them meanwhile.
    for node in dict.fromkeys([target[0], source[0], *others]):
        _set(node, slots, "NODE", target[1])


def _keys_of(node: EmbeddedServer, slots: Sequence[int]) -> list[Sequence[str]]:
    """Up to a thousand keys of each slot that has any."""
    asked = [("CLUSTER", "GETKEYSINSLOT", slot, _KEYS) for slot in slots]
    return [keys for keys in ask_all(node, *asked) if keys]


def _set(node: EmbeddedServer, slots: Sequence[int], *state: str) -> None:
    commands: list[Sequence[Word]] = [("CLUSTER", "SETSLOT", slot, *state) for slot in slots]
    ask_in_parallel(node, commands, _CONNECTIONS)
