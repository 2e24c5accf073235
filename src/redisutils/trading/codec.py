"""How records are written: JSON that anybody can read, or msgpack where space counts.

Every record says by which version of its kind it was written (``v``). A newer program may have
written fields that this one does not know: they are kept, and written again with the rest.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Generic, Literal, TypeVar, get_args

import msgspec

from redisutils.trading.errors import InvalidValue, UnreadableRecord

__all__ = ["Codec", "Encoding", "Record", "content_of"]

Encoding = Literal["json", "msgpack"]


class Record(
    msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True
):
    """What is stored under a key, or is an entry of a stream. Decimals are written as strings,
    moments as integers; fields with their default are left out, but for the version.

    ``extra`` holds the fields of a newer version, as they were written.
    """

    # msgspec leaves out what is equal to a default, and not what a factory has made.
    v: int = msgspec.field(default_factory=(1).__int__)
    extra: dict[str, msgspec.Raw] = msgspec.field(default_factory=dict)


R = TypeVar("R", bound=Record)


def content_of(text: bytes) -> str:
    """A short text by which to tell whether two records are the same."""
    return blake2b(text, digest_size=12).hexdigest()


class Codec(Generic[R]):
    """Turns records of one kind into bytes and back.

    :param kind: the class of the records.
    :param encoding: ``"json"`` or ``"msgpack"``. What was written in the one is not read as the
        other: change it with new keys.
    :raises InvalidValue: another encoding.
    """

    __slots__ = ("_decode", "_decode_fields", "_encode", "_fields", "_kind")

    def __init__(self, kind: type[R], encoding: Encoding = "json") -> None:
        if encoding not in get_args(Encoding):
            raise InvalidValue(
                f"encoding={encoding!r} must be one of {', '.join(get_args(Encoding))}"
            )
        self._kind = kind
        self._fields = frozenset(kind.__struct_encode_fields__) - {"extra"}
        text = msgspec.json if encoding == "json" else msgspec.msgpack
        self._encode: Callable[[object], bytes] = text.Encoder().encode
        self._decode: Callable[[bytes], R] = text.Decoder(kind).decode
        self._decode_fields: Callable[[bytes], dict[str, msgspec.Raw]] = text.Decoder(
            dict[str, msgspec.Raw]
        ).decode

    def encode(self, record: R) -> bytes:
        """A record as bytes, with what an earlier reading did not know."""
        if not record.extra:
            return self._encode(record)
        known = self._decode_fields(self._encode(msgspec.structs.replace(record, extra={})))
        return self._encode({**record.extra, **known})

    def decode(self, text: bytes, where: str = "") -> R:
        """The record that these bytes are.

        :param where: the key, for the error.
        :raises UnreadableRecord: they are none of this kind.
        """
        try:
            return self._decode(text)
        except msgspec.ValidationError:
            return self._decode_newer(text, where)
        except msgspec.DecodeError as error:
            raise self._unreadable(where, error) from error

    def _decode_newer(self, text: bytes, where: str) -> R:
        """With fields that this version does not know; they cost a second reading."""
        try:
            found = self._decode_fields(text)
            extra = {name: found.pop(name) for name in found.keys() - self._fields}
            record = self._decode(self._encode(found))
        except msgspec.DecodeError as error:  # of which ValidationError is one
            raise self._unreadable(where, error) from error
        return msgspec.structs.replace(record, extra=extra)

    def _unreadable(self, where: str, error: Exception) -> UnreadableRecord:
        at = f" under {where}" if where else ""
        return UnreadableRecord(f"no {self._kind.__name__} of ours{at}: {error}")
