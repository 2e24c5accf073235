"""RESP2 and RESP3 as their documents have them, written a second time: what the library says of
bytes is compared with what this says of them. Slow and plain on purpose; hiredis has no part in it.

``reply`` makes values and ``encode`` their bytes; ``parse`` reads bytes back. Both speak of values
as ``Node``; ``seen`` says how a caller is to see one.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import strategies as st

__all__ = [
    "INCOMPLETE",
    "Broken",
    "Node",
    "encode",
    "is_text",
    "parse",
    "push",
    "reply",
    "seen",
    "shown",
]

CRLF: Final = b"\r\n"
INCOMPLETE: Final = None
"""What ``parse`` answers when more bytes are needed."""

MAX_DEPTH: Final = 100
"""Beyond so many levels nothing is said here: the parser may refuse it."""


class Broken(Exception):
    """This is no RESP, or none of which it is said here what becomes of it."""


@dataclass(frozen=True)
class Node:
    """One value on the wire.

    Args:
        kind: the byte that it begins with; ``*-`` and ``$-`` for RESP2's nulls.
        value: bytes as they stand on the wire, or the nodes within; of a map first all keys and
            values in turn.
    """

    kind: str
    value: Any = b""


def encode(node: Node) -> bytes:
    """The bytes of ``node``."""
    kind, value = node.kind, node.value
    if kind in ("*-", "$-"):
        return kind.encode() + b"1\r\n"
    if kind == "$":
        return b"$%d\r\n%b\r\n" % (len(value), value)
    if kind == "=":
        return b"=%d\r\ntxt:%b\r\n" % (len(value) + 4, value)
    if kind in "*~>%":
        count = len(value) // 2 if kind == "%" else len(value)
        return b"%b%d\r\n" % (kind.encode(), count) + b"".join(map(encode, value))
    return b"%b%b\r\n" % (kind.encode(), value)


def is_text(node: Node) -> bool:
    """Whether all strings within are UTF-8. Errors always are: what is not is replaced."""
    if node.kind in "*~>%":
        return all(map(is_text, node.value))
    if node.kind not in "+$=":
        return True
    try:
        node.value.decode()
    except UnicodeDecodeError:
        return False
    return True


def seen(node: Node, decode: bool) -> Any:
    """The Python value that a caller gets; an error as ``("error", its text)``.

    Raises:
        TypeError: it is a map with a key that no dictionary takes.
        Broken: it is a map in which a key comes twice.
    """
    kind, value = node.kind, node.value
    if kind in ("*-", "$-", "_"):
        return None
    if kind in "+$=(":
        return value.decode() if decode else value
    if kind == "-":
        return ("error", value.decode(errors="replace").rstrip())
    if kind == ":":
        return int(value)
    if kind == ",":
        return float(value)
    if kind == "#":
        return value in b"tT"
    if kind == "%":
        flat = [seen(each, decode) for each in value]
        pairs = dict(zip(flat[::2], flat[1::2], strict=True))
        if len(pairs) * 2 < len(flat):
            raise Broken
        return pairs
    return [seen(each, decode) for each in value]


_HINT: Final = (
    r" \((this server is one node of a cluster|the slot is being moved|CLUSTERDOWN, says).*\)$"
)
"""What the library adds to MOVED, ASK and CLUSTERDOWN. It also puts back their first word."""


def shown(value: Any) -> str:
    """A value, as ``seen`` or the library made it, in words that tell types and nan apart."""
    if isinstance(value, BaseException):
        code = getattr(value, "status_code", None)  # redis-py takes it from the text
        text = re.sub(_HINT, "", str(value))
        if code and text != str(value):
            text = text.removeprefix(code).lstrip()
        return repr(("error", f"{code or ''} {text}".strip()))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{shown(k)}: {shown(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    return repr(value)


# -- reading -------------------------------------------------------------------------------------

_LENGTH = re.compile(rb"0|[1-9][0-9]*")
_INTEGER = re.compile(rb"0|-?[1-9][0-9]*")
_DOUBLE = re.compile(rb"-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?|-?inf|nan")
_NO_KEY = re.compile(rb"[*~>%][0-9]")  # of a dictionary; but *-1 is null
_FIT: Final = range(-(2**63), 2**63)


def parse(data: bytes, at: int = 0, depth: int = 0) -> tuple[Node, int] | None:
    """The value at ``data[at:]`` and where it ends, or INCOMPLETE.

    Raises:
        Broken: nothing is said here of what is at ``at``.
    """
    if depth > MAX_DEPTH:
        raise Broken
    end = data.find(CRLF, at)
    if end < 0:
        if at < len(data) and data[at : at + 1] not in b"+-:,#(_$=*~>%":
            raise Broken
        return INCOMPLETE
    kind, line, after = chr(data[at]), data[at + 1 : end], end + 2
    if kind in "$=":
        return _string(kind, line, data, after)
    if kind in "*~>%":
        return _aggregate(kind, line, data, after, depth)
    if b"\r" in line or b"\n" in line or not _fits(kind, line):
        raise Broken
    return Node(kind, line), after


def _fits(kind: str, line: bytes) -> bool:
    if kind in "+-":
        return True
    if kind == ":":
        return bool(_INTEGER.fullmatch(line)) and int(line) in _FIT
    if kind == "(":
        return bool(_INTEGER.fullmatch(line)) and len(line) < 300
    if kind == ",":
        return bool(_DOUBLE.fullmatch(line)) and len(line) < 300
    return (kind, line) in {("#", b"t"), ("#", b"f"), ("_", b"")}


def _string(kind: str, line: bytes, data: bytes, at: int) -> tuple[Node, int] | None:
    if line == b"-1" and kind == "$":
        return Node("$-"), at
    if not _LENGTH.fullmatch(line) or len(line) > 18:
        raise Broken
    end = at + int(line)
    if len(data) < end + 2:
        return INCOMPLETE
    value = data[at:end]
    if data[end : end + 2] != CRLF or (kind == "=" and value[:4] not in (b"txt:", b"mkd:")):
        raise Broken
    return Node(kind, value[4:] if kind == "=" else value), end + 2


def _aggregate(kind: str, line: bytes, data: bytes, at: int, depth: int) -> tuple[Node, int] | None:
    if line == b"-1" and kind == "*":
        return Node("*-"), at
    if not _LENGTH.fullmatch(line) or len(line) > 9:
        raise Broken
    values: list[Node] = []
    for number in range(int(line) * (2 if kind == "%" else 1)):
        if kind == "%" and number % 2 == 0 and _NO_KEY.match(data, at):
            raise Broken
        one = parse(data, at, depth + 1)
        if one is INCOMPLETE:
            return INCOMPLETE
        node, at = one
        values.append(node)
    return Node(kind, tuple(values)), at


# -- making --------------------------------------------------------------------------------------

CODES: Final = ("ERR", "MINE", "WRONGTYPE", "LOADING", "NOSCRIPT", "NOAUTH", "READONLY")
"""With which error replies begin."""

_letters = st.text("ab é€\x00", max_size=8).map(str.encode)
_lines = _letters | st.binary(max_size=6).map(lambda b: b.translate(None, CRLF))
_bytes = _letters | st.binary(max_size=12) | st.sampled_from([b"\r\n", b"+OK\r\n", b"$-1\r\n"])
_errors = st.builds(
    lambda code, text: f"{code} {text}".encode(),
    st.sampled_from(CODES),
    st.text("abc ", max_size=6),
)
_integers = st.integers(-(2**63), 2**63 - 1)
_doubles = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.sampled_from(["inf", "-inf", "nan", "0", "-0", "10", "1e5", "1.5E-3"]),
).map(str.encode)

_keys = st.one_of(
    st.builds(Node, st.sampled_from("+"), _lines),
    st.builds(Node, st.sampled_from("$="), _bytes),
    st.builds(Node, st.just(":"), _integers.map(lambda i: b"%d" % i)),
    st.builds(Node, st.just(","), _doubles),
    st.builds(Node, st.just("#"), st.sampled_from([b"t", b"f"])),
    st.builds(Node, st.just("("), st.integers().map(lambda i: b"%d" % (i * 10**25))),
    st.sampled_from([Node("_"), Node("$-"), Node("*-")]),
)
_scalars = _keys | st.builds(Node, st.just("-"), _errors)


def _within(inner: st.SearchStrategy[Node]) -> st.SearchStrategy[Node]:
    some = st.lists(inner, max_size=4)
    # Each key once for Python, to which 1 and true are one.
    pairs = st.lists(
        st.tuples(_keys, inner), max_size=3, unique_by=lambda pair: seen(pair[0], False)
    )
    return st.builds(Node, st.sampled_from("*~"), some.map(tuple)) | st.builds(
        Node, st.just("%"), pairs.map(lambda each: tuple(node for pair in each for node in pair))
    )


reply = st.recursive(_scalars, _within, max_leaves=8)
"""Any reply."""

push = st.builds(
    lambda name, rest: Node(">", (Node("$", name), *rest)),
    st.sampled_from([b"invalidate", b"message", b"nobody-knows"]),
    st.lists(reply.filter(is_text), max_size=3),
)
"""Any push message that is text."""
