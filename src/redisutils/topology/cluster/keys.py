"""Which slots of a cluster a command touches: pure functions of its words, or of its packed bytes.

A key's slot is CRC16 of it, modulo 16384; of a key with a hash tag, ``{…}``, only what stands
within the braces counts, so that keys with the same tag live together. See
redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec.

Shard channels are routed as keys are, and count as keys here.
"""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Iterable, Sequence
from typing import Final

from redis.typing import EncodableT

from redisutils.commands import keys_of, lookup, may_write
from redisutils.commands.words import encoded, number
from redisutils.connection.packing import unpack
from redisutils.errors import CrossSlot

__all__ = [
    "SLOTS",
    "commands_in",
    "keyed_first",
    "keys_in",
    "shown",
    "slot_of",
    "slots_in",
    "written_in",
    "the_slot",
    "the_slot_of_all",
]

SLOTS: Final = 16384
"""How many a cluster has."""


def slot_of(key: bytes) -> int:
    """The slot in which this key lives."""
    # Asked for each command: to look for a byte's number with an operator takes half the time of
    # a method, or of looking for b"{".
    if 0x7B in key:
        start = key.find(b"{") + 1
        end = key.find(b"}", start)
        if end > start:
            key = key[start:end]
    return crc_hqx(key, 0) & 16383


def keyed_first(name: bytes) -> bool:
    """Whether the first argument, and nothing else, is a key in every call of this command.

    So it is taken of commands that are not known. Of others, ask :func:`keys_in`. To be
    remembered by who asks it for each command.

    Args:
        name: The first word of the command on the wire, in any case.
    """
    command = lookup((name,))
    return (
        command.first_key == command.last_key == 1
        and not command.keys_after
        and command.numkeys is None
        and command.subcommands is None
    )


def commands_in(payload: bytes, count: int | None = None) -> list[bytes]:
    """A run of packed commands, cut into one packed command each.

    Complexity: a pass at C's speed if ``count`` is given and no value in the run happens to look
    like the beginning of a command; else a step for each word.

    Args:
        payload: As ``packing.pack_many`` writes it.
        count: How many commands these are, if that is known.
    """
    if count is not None:
        # Each command but the first begins after such a mark. If there are no more marks than
        # that, none of them stands within a value.
        pieces = payload.split(b"\r\n*")
        if len(pieces) == count:
            if count == 1:
                return [payload]
            last = len(pieces) - 1
            return [
                pieces[0] + b"\r\n",
                *[b"*%b\r\n" % piece for piece in pieces[1:last]],
                b"*" + pieces[last],
            ]
    commands: list[bytes] = []
    at = 0
    while at < len(payload):
        begin = at
        end = payload.index(b"\r\n", at)
        words, at = int(payload[at + 1 : end]), end + 2
        for _ in range(words):
            end = payload.index(b"\r\n", at)
            at = end + 4 + int(payload[at + 1 : end])
        commands.append(payload[begin:at])
    return commands


def keys_in(payload: bytes) -> list[bytes]:
    """The keys of a packed run of commands, in their order, as often as they are named."""
    return [key for words in unpack(payload) for key in keys_of(words)]


def slots_in(payload: bytes) -> list[int]:
    """The slots that a packed run of commands touches, each once, in order of appearance."""
    slots: dict[int, None] = {}
    run = list(unpack(payload))
    for words in run:
        slots.update(dict.fromkeys(map(slot_of, keys_of(words))))
        named = _slot_named(words)
        if named is not None:
            slots[named] = None
    if not slots and len(run) == 1:  # with others it goes where they go
        channel = _slot_of_channel(run[0])
        return [] if channel is None else [channel]
    return list(slots)


def written_in(payload: bytes) -> list[int] | tuple[None, ...]:
    """The slots whose keys a packed run of commands may change; None for any slot. Empty if it
    changes nothing. (What EXEC by itself executes was issued before.)"""
    for words in unpack(payload):
        if may_write(words) or lookup(words).name == "EXEC":
            return slots_in(payload) or (None,)
    return ()


_OF_A_SLOT: Final = frozenset({"CLUSTER COUNTKEYSINSLOT", "CLUSTER GETKEYSINSLOT"})
"""Any node answers them, but only the slot's owner answers something else than 0 or nothing."""


def _slot_named(words: Sequence[EncodableT]) -> int | None:
    """The slot of which this command asks by its number."""
    if len(words) > 2 and lookup(words).name in _OF_A_SLOT:
        slot = number(words[2])
        if slot is not None and slot in range(SLOTS):
            return int(slot)
    return None


def _slot_of_channel(words: Sequence[EncodableT]) -> int | None:
    """Where PUBLISH is sent. Any node would pass it on, but each in the order in which it was given
    what it passes on: by two ways the messages on a channel could change places."""
    if len(words) > 1 and lookup(words).name == "PUBLISH":
        return slot_of(encoded(words[1]))
    return None


def the_slot(words: Sequence[EncodableT]) -> int | None:
    """The slot in which all keys of this command live; None if it has no keys.

    Of what asks a slot's owner for its keys (CLUSTER COUNTKEYSINSLOT), that slot; of PUBLISH, the
    one that the channel would have if it were a key.

    Raises:
        CrossSlot: they live in several. Also for those commands that ``splitting`` can split: ask
            that first where splitting is wanted.
    """
    named = _slot_named(words)
    if named is None:
        named = _slot_of_channel(words)
    if named is not None:
        return named
    return _common((words,), f"{lookup(words).name or 'this command'}: ", "one command")


def the_slot_of_all(commands: Iterable[Sequence[EncodableT]], what: str) -> int | None:
    """The slot in which all keys of these commands live; None if they have no keys.

    Args:
        commands: The words of each.
        what: What they are together, for the message, such as ``"a transaction"``.

    Raises:
        CrossSlot: they live in several.
    """
    return _common(commands, "", what)


def _common(commands: Iterable[Sequence[EncodableT]], prefix: str, what: str) -> int | None:
    first: bytes | None = None
    slot: int | None = None
    before = ""
    for words in commands:
        for key in keys_of(words):
            own = slot_of(key)
            if slot is None:
                first, slot, before = key, own, lookup(words).name
            elif own != slot and first is not None:
                if prefix:
                    of_first = of_second = ""
                else:
                    of_first, of_second = f" of {before}", f" of {lookup(words).name}"
                raise CrossSlot(
                    f"{prefix}the keys {shown(first)}{of_first} (slot {slot}) and {shown(key)}"
                    f"{of_second} (slot {own}) live in different slots of the cluster, and {what}"
                    " can reach only one. Give keys that belong together the same hash tag: of"
                    " {user:1}:orders and {user:1}:cash only what is within the braces counts"
                )
    return slot


_SHOWN: Final = 64


def shown(key: bytes) -> str:
    """A key for a message: quoted, printable, and not more of it than can be read."""
    text = key[:_SHOWN].decode("utf-8", "backslashreplace")
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return f"'{text[: _SHOWN - 3]}...'" if len(key) > _SHOWN or len(text) > _SHOWN else f"'{text}'"
