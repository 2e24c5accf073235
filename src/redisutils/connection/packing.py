"""From a command's arguments to bytes on the wire, as redis-py does it.

hiredis packs ``str``, ``int``, ``float``, ``bytes`` and ``memoryview`` in C. What it
refuses is looked at here: ``bytearray`` is taken, all else (``bool`` and ``None``
above all) is redis-py's ``DataError``. Everything happens before a reply is queued,
so that a bad argument disturbs nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hiredis import pack_command
from redis.exceptions import DataError

from redisutils.errors import Outcome, with_outcome

__all__ = ["OwnPayload", "PlacedPayload", "name_in", "pack", "pack_many", "unpack"]


class OwnPayload(bytes):
    """A packed command that no caller waits for, such as a health check's, or of which its client
    tells the caller itself, as of those that block: its reply's failure counts as nobody's."""

    __slots__ = ()


class PlacedPayload(bytes):
    """A packed command for a certain server of several. Without a key that says where it belongs,
    no other may execute it in its stead."""

    __slots__ = ()


def pack(args: Sequence[Any], encoding: str = "utf-8", errors: str = "strict") -> bytes:
    """Pack one command.

    The first argument may hold several words (``"CLIENT LIST"``), as in redis-py.

    Raises:
        DataError: an argument is of a type that has no one meaning on the wire, or the name has
            no word in it.
        UnicodeEncodeError: a string does not encode.
        Both with ``outcome`` NOT_SENT.
    """
    name = args[0]
    if type(name) is str and " " not in name and encoding == "utf-8" and errors == "strict":
        try:
            return pack_command(args if type(args) is tuple else tuple(args))  # type: ignore[no-any-return]  # hiredis tells no types, and a name costs time
        except TypeError:
            pass  # something hiredis does not take: below
        except UnicodeEncodeError as error:
            raise with_outcome(error, Outcome.NOT_SENT) from None
    return _pack_carefully(args, encoding, errors)


def pack_many(
    commands: Iterable[Sequence[Any]], encoding: str = "utf-8", errors: str = "strict"
) -> bytes:
    """Pack several commands into one run of bytes. Raises as :func:`pack` does."""
    commands = list(commands)
    if encoding == "utf-8" and errors == "strict":
        names = [args[0] for args in commands]
        try:  # at hiredis' own speed when every name is a plain word
            if set(map(type, names)) == {str} and " " not in "".join(names):
                return b"".join([pack_command(tuple(args)) for args in commands])
        except (TypeError, UnicodeEncodeError):
            pass  # one of them is not for hiredis: find it below
    return b"".join([pack(args, encoding, errors) for args in commands])


def _pack_carefully(args: Sequence[Any], encoding: str, errors: str) -> bytes:
    name = args[0]
    if isinstance(name, str):
        words: Sequence[Any] = name.encode().split()  # whatever the arguments' encoding
    elif isinstance(name, bytes):
        words = name.split()
    else:
        words = [name]
    if not words:
        # The server answers nothing to a command without a word, and the next reply in its place.
        raise with_outcome(
            DataError(f"a command needs a name, not {name!r}: such as 'GET'"), Outcome.NOT_SENT
        )
    packed: list[Any] = []
    for position, arg in enumerate((*words, *args[1:])):
        kind = type(arg)
        if kind is bytes or kind is int or kind is float or kind is memoryview:
            packed.append(arg)
        elif isinstance(arg, str):
            try:
                packed.append(arg.encode(encoding, errors))
            except UnicodeEncodeError as error:
                raise with_outcome(error, Outcome.NOT_SENT) from None
        elif isinstance(arg, bytes | bytearray):
            packed.append(bytes(arg))
        elif isinstance(arg, int | float) and not isinstance(arg, bool):
            packed.append(repr(arg).encode())
        else:
            raise with_outcome(
                DataError(
                    f"Invalid input of type: '{kind.__name__}' (argument {position} of "
                    f"{_name(words)}). Convert to a bytes, string, int or float first."
                ),
                Outcome.NOT_SENT,
            )
    whole: bytes = pack_command(tuple(packed))
    return whole


def _name(words: Sequence[Any]) -> str:
    return " ".join(w.decode(errors="replace") if isinstance(w, bytes) else repr(w) for w in words)


def name_in(payload: bytes) -> str:
    """The name of the first command that is somebody's, for a message: ASKING, which goes before
    what is asked by way of exception, is nobody's."""
    words = payload.split(b"\r\n", 6)
    name = words[5] if words[2] == b"ASKING" and len(words) > 6 else words[2]
    return name[:32].decode("ascii", "replace")


def unpack(payload: bytes) -> list[list[bytes]]:
    """The commands in a packed payload. O(its length): for rare paths only."""
    commands: list[list[bytes]] = []
    at = 0
    while at < len(payload):
        end = payload.index(b"\r\n", at)
        count, at = int(payload[at + 1 : end]), end + 2
        words: list[bytes] = []
        for _ in range(count):
            end = payload.index(b"\r\n", at)
            length, at = int(payload[at + 1 : end]), end + 2
            words.append(payload[at : at + length])
            at += length + 2
        commands.append(words)
    return commands
