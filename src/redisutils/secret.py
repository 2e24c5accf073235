"""Secrets that pass as the text that they are, and do not show themselves.

Trackers of errors and debuggers print the locals of every frame that an exception has passed.
What stands there is the ``repr``, and a :class:`Secret`'s is ``'***'``. Whoever uses it as text
(compares, encodes or formats it) gets the text. A copy is hidden too, and so is what comes out
of a pickle, which itself holds the text.

What is hidden are the characters, not what ``str()`` makes of them: others' texts that mask
themselves, and members of an ``Enum``, are sent as they are.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Self, SupportsIndex, TypeVar, cast

__all__ = ["Secret", "SecretBytes", "hidden", "hide"]

_T = TypeVar("_T")
_M = TypeVar("_M", bound=Mapping[str, Any])

_NAMES = re.compile(
    r"(?!.*_(file|path)$).*(pass|secret|token|auth|credential|url|uri|dsn).*", re.IGNORECASE
)
"""Arguments that hold a secret, misspelt ones included. The names of files are none."""


class Secret(str):
    """A text that is shown as ``'***'``."""

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        """The characters of a ``str`` of any kind; a :class:`Secret` itself."""
        if type(text) is cls:
            return text
        return super().__new__(cls, str.__str__(text))

    def __repr__(self) -> str:
        return "'***'"

    def __getitem__(self, key: SupportsIndex | slice) -> Secret:
        return Secret(super().__getitem__(key))  # a part, for those who show long texts cut


class SecretBytes(bytes):
    """Bytes that are shown as ``b'***'``; their ``str()``, which is for display alone, too."""

    __slots__ = ()

    def __new__(cls, content: bytes) -> Self:
        """The content of ``bytes`` of any kind; :class:`SecretBytes` themselves."""
        if type(content) is cls:
            return content
        return super().__new__(cls, memoryview(content))  # asks for no __bytes__

    def __repr__(self) -> str:
        return "b'***'"

    __str__ = __repr__


def hidden(value: _T) -> _T:
    """The same value, hidden if it is text or bytes."""
    if isinstance(value, str):
        return cast(_T, Secret(value))  # a str still
    if isinstance(value, bytes):
        return cast(_T, SecretBytes(value))  # bytes still
    return value


def hide(arguments: _M) -> _M:
    """A copy of keyword arguments in which those that may be secret are hidden."""
    copy = {
        name: hidden(value) if _NAMES.fullmatch(name) else _hidden_user(value)
        for name, value in arguments.items()
    }
    return cast(_M, copy)  # of the same names and types


def _hidden_user(value: object) -> object:
    """Text with a user in it, a URL or a place, whatever it was meant as; also in a list."""
    if isinstance(value, str) and "@" in value:
        return Secret(value)
    if type(value) is list:
        return [_hidden_user(item) for item in value]
    if type(value) is tuple:
        return tuple(_hidden_user(item) for item in value)
    return value
