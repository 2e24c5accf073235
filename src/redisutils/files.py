"""Files that settings name or lie in, and what may stand in their place: to read a named pipe takes
as long as whoever writes to it likes, and a device may have no end."""

from __future__ import annotations

import errno
import os
import select
import stat
from time import monotonic
from typing import Final

__all__ = ["irregular", "is_pipe", "open_at_once", "piped_variables", "read_pipe"]

PATIENCE: Final = 2.0
"""Seconds in which a named pipe must have told all."""
MOST: Final = 1 << 20
"""Bytes that it may tell."""


def irregular(found: os.stat_result) -> str:
    """What it is instead of a regular file, or ""."""
    mode = found.st_mode
    if stat.S_ISREG(mode):
        return ""
    kinds = ((stat.S_ISFIFO, "pipe"), (stat.S_ISDIR, "folder"), (stat.S_ISSOCK, "socket"))
    kind = next((name for is_one, name in kinds if is_one(mode)), "device")
    return f"is a {'named pipe' if kind == 'pipe' else kind}: must be a regular file"


def is_pipe(path: str | os.PathLike[str]) -> bool:
    """Whether a named pipe is there, or a shell's ``<(…)``."""
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)
    except OSError:
        return False


def open_at_once(path: str, flags: int) -> int:
    """Open, where a named pipe without a writer would keep the event loop waiting for one."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def read_pipe(path: str | os.PathLike[str], patience: float | None = None) -> bytes:
    """All that is written to a named pipe, by whoever opens it meanwhile.

    Args:
        patience: seconds, for all of it; 2 by default.

    Raises:
        TimeoutError: nobody writes, or does not end in time.
        OSError: it cannot be read, or tells more than 1 MiB.
    """
    patience = PATIENCE if patience is None else patience
    deadline = monotonic() + patience
    told = bytearray()
    descriptor = open_at_once(os.fspath(path), os.O_RDONLY)
    try:
        while len(told) <= MOST:
            left = deadline - monotonic()
            # Readable with a first byte, or when its last writer has gone; not before one came.
            if left <= 0 or not select.select([descriptor], [], [], left)[0]:
                raise TimeoutError(
                    "is a named pipe, and its writer has not come, or not ended, within "
                    f"{patience:g} s: who writes to it?"
                )
            part = os.read(descriptor, 1 << 16)
            if not part:
                return bytes(told)
            told += part
        raise OSError(errno.EFBIG, f"a named pipe that tells more than {MOST >> 20} MiB")
    finally:
        os.close(descriptor)


def piped_variables(path: str | os.PathLike[str]) -> dict[str, str | None]:
    """The variables of a ``.env`` that is a named pipe, by their names in lower case.

    Raises:
        OSError: as :func:`read_pipe` does.
        UnicodeDecodeError: it is not UTF-8.
    """
    from io import StringIO

    from dotenv import dotenv_values  # comes with pydantic-settings, and is wanted by few

    found = dotenv_values(stream=StringIO(read_pipe(path).decode("utf-8-sig")))
    return {name.lower(): value for name, value in found.items()}
