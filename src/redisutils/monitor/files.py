"""The dashboard's files, read once from the package."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from importlib.resources import files
from typing import Final

__all__ = ["File", "read_page"]

_KINDS: Final = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "woff2": "font/woff2",
}
"""What may be served, by the end of its name. The system's table of types is not asked: it differs
from machine to machine."""


@dataclass(frozen=True, slots=True)
class File:
    """One file, as it is sent."""

    content: bytes
    kind: str
    """Its media type."""
    tag: str
    """Its ETag: another content has another one."""


def read_page() -> dict[str, File]:
    """The files of the dashboard by name."""
    found = {}
    for entry in files("redisutils.monitor").joinpath("page").iterdir():
        kind = _KINDS.get(entry.name.rpartition(".")[2])
        if kind is not None and entry.is_file():
            content = entry.read_bytes()
            found[entry.name] = File(content, kind, f'"{sha256(content).hexdigest()[:20]}"')
    return found
