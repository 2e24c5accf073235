"""The file that a password is read from, which may be replaced at any time, so as to rotate it."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Final

from redisutils.errors import ConfigError
from redisutils.secret import Secret

__all__ = ["read_password"]

_LARGEST: Final = 64 << 10  # bytes


def read_password(path: Path) -> Secret:
    """The password that stands there now, less one newline at its end.

    Raises:
        ConfigError: the file cannot be read, is empty, no regular file, larger than 64 KiB or
            not UTF-8.
    """
    wrong = "is empty"
    try:
        with open(path, encoding="utf-8", opener=_without_waiting) as file:
            wrong = _unfit(os.fstat(file.fileno())) or wrong
            if wrong == "is empty":
                # \r\n arrives as \n
                password = file.read(_LARGEST).removesuffix("\n")
                if password:
                    return Secret(password)
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        wrong = "is not UTF-8 text"
    # Not raised from in there: the decoder's error, which would be its context, has the bytes.
    raise ConfigError(f"REDIS_PASSWORD_FILE={path}: {wrong}")


def _without_waiting(path: str, flags: int) -> int:
    """Open, where a named pipe without a writer would keep the event loop waiting for one."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0))


def _unfit(file: os.stat_result) -> str:
    """Why this cannot be a password file, or ""."""
    if not stat.S_ISREG(file.st_mode):
        kind = "a named pipe" if stat.S_ISFIFO(file.st_mode) else "a device"
        return f"is {kind}: must be a regular file, or a link to one"
    if file.st_size > _LARGEST:
        return f"is larger than {_LARGEST >> 10} KiB: is it the right file?"
    return ""
