"""Standard output that fails: its reader has gone, as ``head`` does, or its disk is full.

Whoever writes gets an OSError as ever, once: from then on all goes nowhere, so that what has to be
done (keys deleted, connections closed) is done, and nothing complains at the end. ``failure`` says
to the command line that what it printed has not arrived.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from typing import Final

__all__ = ["READER_GONE", "UNWRITTEN", "Output", "outcome"]

READER_GONE: Final = 141
"""As shells say of what SIGPIPE has ended."""
UNWRITTEN: Final = 74
"""For all else: EX_IOERR of sysexits.h."""


class Output(io.TextIOWrapper):
    """Standard output, in place of the stream that it takes over."""

    def __init__(self, stream: io.TextIOWrapper) -> None:
        encoding, errors = stream.encoding, "replace"
        lines, through = stream.line_buffering, stream.write_through
        stream.flush()
        super().__init__(
            stream.detach(),
            encoding,
            # A terminal without Unicode shows "?" for a sparkline; it must not end the run.
            errors,
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
