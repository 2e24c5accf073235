"""How records are written: JSON that anybody can read, or msgpack where space counts.

Every record says by which version of its kind it was written (``v``). A newer program may have
written fields that this one does not know: they are kept, and written again with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from decimal import Decimal
from hashlib import blake2b
from operator import attrgetter
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin

import msgspec

from redisutils.trading.errors import InvalidValue, UnreadableRecord
from redisutils.trading.money import ARITHMETIC

__all__ = ["Codec", "Encoding", "Part", "Record"]

Encoding = Literal["json", "msgpack"]

_normal = ARITHMETIC.normalize


class Part(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What is written as an object. Decimals are written as strings, moments as integers; fields
    with their default are left out.

    ``extra`` holds the fields of a newer version, as they were written, if there are any. (Structs
    that are written as arrays have no such place: they never gain a field.)
    """

    extra: dict[str, msgspec.Raw] | None = None


class Record(Part, frozen=True, kw_only=True):
    """What is stored under a key, or is an entry of a stream. Its version is always written."""

    # msgspec leaves out what is equal to a default, and not what a factory has made.
    v: int = msgspec.field(default_factory=(1).__int__)


R = TypeVar("R", bound=Part)


class Codec(Generic[R]):
    """Turns records of one kind into bytes and back, with the parts that they have.

    :param kind: the class of the records.
    :param encoding: ``"json"`` or ``"msgpack"``. What was written in the one is not read as the
        other: change it with new keys.
    :raises InvalidValue: another encoding.
    """

    __slots__ = (
        "_decode",
        "_decode_fields",
        "_decode_list",
        "_encode",
        "_fields",
        "_kind",
        "_numbers",
        "_parts",
    )

    def __init__(self, kind: type[R], encoding: Encoding = "json") -> None:
        if encoding not in get_args(Encoding):
            raise InvalidValue(
                f"encoding={encoding!r} must be one of {', '.join(get_args(Encoding))}"
            )
        self._kind = kind
        self._numbers = tuple(
            (field.name, field.default, attrgetter(field.name))
            for field in msgspec.structs.fields(kind)
            if Decimal in (field.type, *get_args(field.type))
        )
        """Of each such field its name, its default, and what reads it."""
        self._fields = frozenset(kind.__struct_encode_fields__) - {"extra"}
        text = msgspec.json if encoding == "json" else msgspec.msgpack
        self._encode: Callable[[object], bytes] = text.Encoder().encode
        self._decode: Callable[[bytes], R] = text.Decoder(kind).decode
        self._decode_fields: Callable[[bytes], dict[str, msgspec.Raw]] = text.Decoder(
            dict[str, msgspec.Raw]
        ).decode
        self._decode_list: Callable[[bytes], list[msgspec.Raw]] = text.Decoder(
            list[msgspec.Raw]
        ).decode
        self._parts: dict[str, tuple[Codec[Any], bool]] = {
            field.name: (Codec(part, encoding), get_origin(field.type) is tuple)
            for field in msgspec.structs.fields(kind)
            for part in _parts_in(field.type)
        }
        """By field: how its parts are written, and whether there may be many."""

    def encode(self, record: R) -> bytes:
        """A record as bytes, with what an earlier reading did not know."""
        text = self._encode(record)
        if record.extra is None and (
            not self._parts or b"extra" not in text or self._is_known(record)
        ):
            return text
        known = self._decode_fields(self._encode(msgspec.structs.replace(record, extra=None)))
        for name, (codec, many) in self._parts.items():
            if value := getattr(record, name):
                texts = [msgspec.Raw(codec.encode(part)) for part in (value if many else (value,))]
                known[name] = msgspec.Raw(self._encode(texts)) if many else texts[0]
        return self._encode({**(record.extra or {}), **known})

    def content(self, record: R, **same: Any) -> str:
        """A short text by which to tell whether two records are the same. A number is, with however
        many zeros at its end.

        :param same: what to take for these fields instead, since they do not count.
        """
        for name, default, read in self._numbers:
            if (value := read(record)) is not default and value is not None:
                # What is written is told from the default by identity.
                same[name] = default if value == default else _normal(value)
        text = self.encode(msgspec.structs.replace(record, **same))
        return blake2b(text, digest_size=12).hexdigest()

    def _is_known(self, record: R) -> bool:
        """Whether this version knows all that is in a record."""
        if record.extra:
            return False
        for name, (codec, many) in self._parts.items():
            value = getattr(record, name)
            if value and not all(map(codec._is_known, value if many else (value,))):
                return False
        return True

    def decode(self, text: bytes, where: str = "") -> R:
        """The record that these bytes are.

        :param where: the key, for the error.
        :raises UnreadableRecord: they are none of this kind.
        """
        try:
            return self._decode(text)
        except msgspec.ValidationError:
            return self._decode_newer(text, where)
        except (msgspec.DecodeError, RecursionError) as error:
            raise self._unreadable(where, error) from error

    def _decode_newer(self, text: bytes, where: str) -> R:
        """With fields that this version does not know; they cost a second reading."""
        try:
            found = self._decode_fields(text)
            extra = {name: found.pop(name) for name in found.keys() - self._fields}
            changes: dict[str, Any] = {"extra": extra or None}
            for name, (codec, many) in self._parts.items():
                if name not in found or bytes(found[name]) == self._encode(None):
                    continue
                texts = self._decode_list(found[name]) if many else [found[name]]
                parts = [codec.decode(bytes(one), where) for one in texts]
                changes[name] = tuple(parts) if many else parts[0]
                known = [msgspec.structs.replace(part, extra=None) for part in parts]
                found[name] = msgspec.Raw(self._encode(known if many else known[0]))
            record = self._decode(self._encode(found))
        except (msgspec.DecodeError, RecursionError) as error:  # ValidationError is of the former
            raise self._unreadable(where, error) from error
        return msgspec.structs.replace(record, **changes)

    def _unreadable(self, where: str, error: Exception) -> UnreadableRecord:
        at = f" under {where}" if where else ""
        return UnreadableRecord(f"no {self._kind.__name__} of ours{at}: {error}")


def _parts_in(annotation: object) -> Iterator[type[Part]]:
    if isinstance(annotation, type) and issubclass(annotation, Part):
        yield annotation
    for argument in get_args(annotation):
        yield from _parts_in(argument)
