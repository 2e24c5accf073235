"""Standard output that fails: its reader has gone, as ``head`` does, or its disk is full.

Whoever writes gets an OSError as ever, once: from then on all goes nowhere, so that what has to be
done (keys deleted, connections closed) is done, and nothing complains at the end. ``failure`` says
to the command line that what it printed has not arrived.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from typing import Final

__all__ = ["READER_GONE", "UNWRITTEN", "Output", "outcome", "plainly"]

READER_GONE: Final = 141
"""As shells say of what SIGPIPE has ended."""
UNWRITTEN: Final = 74
"""For all else: EX_IOERR of sysexits.h."""


_PLAIN: Final = str.maketrans(
    "µ–—·×✓✗✖●•→…━─╸╺│└┴░▒█▓▁▂▃▄▅▆▇⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏", "u--|x+xx*->~=---|++.:#%_.-=+*%>>>>>>>>>>"
)
_BRAILLE: Final = range(0x2800, 0x2900)


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    told = error.object[error.start : error.end].translate(_PLAIN)
    shown = ("." if ord(char) in _BRAILLE else char if char.isascii() else "?" for char in told)
    return "".join(shown), error.end


def plainly() -> str:
    """The name of the way in which streams write what they have no character for: with one that
    looks like it, of the same width, since it must not end the run."""
    name = "redisutils.plain"
    codecs.register_error(name, _plain)
    return name


class Output(io.TextIOWrapper):
    """Standard output, in place of the stream that it takes over."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        lines, through = stream.line_buffering, stream.write_through
        stream.flush()
        super().__init__(
            stream.detach(),
            stream.encoding,
            plainly(),
            line_buffering=lines,
            write_through=through,
        )
        self.failure: OSError | None = None

    def write(self, text: str) -> int:
        """As files do. Raises OSError the first time."""
        if text == "":  # click finds out so what it has before it, and forgets how it went
            return 0
        try:
            return super().write(text)
        except OSError as error:
            self._fail(error)
            raise

    def flush(self) -> None:
        """As files do. Raises OSError the first time."""
        try:
            super().flush()
        except OSError as error:
            self._fail(error)
            raise

    def _fail(self, error: OSError) -> None:
        self.failure = error
        with contextlib.suppress(OSError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)


def outcome(output: Output, code: int) -> int:
    """What the program exits with, ``code`` if all that it printed has arrived; says so if not.

    A program that ended well though it could not print does not depend on it: so does a server
    whose first words nobody heard.
    """
    before = output.failure
    with contextlib.suppress(OSError):
        output.flush()
    failure = output.failure
    if failure is None or (failure is before and code == 0):
        return code
    if isinstance(failure, BrokenPipeError):
        return READER_GONE
    why = failure.strerror or failure
    print(f"redisutils: standard output cannot be written: {why}", file=sys.stderr)
    return UNWRITTEN
