"""The ``redisutils`` command. Its dependencies come with the extra ``cli``.

``main`` is importable without them, so that the installed command can say what is
missing instead of dying with a traceback.
"""

from __future__ import annotations

import io
import os
import sys

__all__ = ["main"]

_OURS = frozenset({"typer", "rich"})
"""What the extra ``cli`` brings."""


def main() -> None:
    """Run the command line in ``sys.argv`` and exit with its code.

    Raises:
        SystemExit: always; code 2 when the extra ``cli`` is not installed.
    """
    _open_the_standard_files()
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without Unicode shows "?" for a sparkline; it must not end the run.
            stream.reconfigure(errors="replace")
    try:
        from redisutils.cli.app import app
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in _OURS:
            raise
        print(
            f"redisutils: the command line needs {error.name}, which is not installed.\n"
            'Install it with:  pip install "redisutils[cli]"',
            file=sys.stderr,
        )
        raise SystemExit(2) from None
    app()


def _open_the_standard_files() -> None:
    """Where the program was started with some of them closed: sockets would get their numbers, and
    be written to, or be closed, as standard output."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            if opened != number:
                os.dup2(opened, number)
                os.close(opened)
            os.set_inheritable(number, True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115  # as long as it runs
