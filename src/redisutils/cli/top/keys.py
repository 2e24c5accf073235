"""Single keys from a terminal, as they are pressed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec

__all__ = ["pressed"]


@contextlib.contextmanager
def pressed(tell: Callable[[str], None]) -> Iterator[bool]:
    """Call ``tell`` with each key while the context lasts.

    Yields whether there will be any: not where standard input is no terminal, nor on Windows.
    The terminal is as it was, afterwards.
    """
    fileno = _terminal()
    if fileno is None:
        yield False
        return
    import termios
    import tty

    loop = asyncio.get_running_loop()
    before = termios.tcgetattr(fileno)

    def read() -> None:
        try:
            keys = os.read(fileno, 64)
        except OSError:
            keys = b""
        if not keys:  # the terminal has gone
            loop.remove_reader(fileno)
            tell("q")
            return
        for key in keys.decode(errors="ignore"):
            tell(key)

    tty.setcbreak(fileno)
    loop.add_reader(fileno, read)
    try:
        yield True
    finally:
        loop.remove_reader(fileno)
        with contextlib.suppress(termios.error):  # it has gone
            termios.tcsetattr(fileno, termios.TCSADRAIN, before)


def _terminal() -> int | None:
    """Standard input, if it is a terminal whose keys can be had one by one."""
    if find_spec("termios") is None:  # on Windows
        return None
    try:
        return sys.stdin.fileno() if sys.stdin.isatty() else None
    except (ValueError, OSError, AttributeError):
        return None
