"""The ``redisutils`` command. Its dependencies come with the extra ``cli``.

``main`` is importable without them, so that the installed command can say what is
missing instead of dying with a traceback.
"""

from __future__ import annotations

import io
import os
import sys

from redisutils.cli.output import Output, outcome, plainly

__all__ = ["main"]

_OURS = frozenset({"typer", "rich"})
"""What the extra ``cli`` brings."""

INTERRUPTED = 130
"""As shells say of what SIGINT has ended."""


def main() -> None:
    """Run the command line in ``sys.argv`` and exit with its code.

    Raises:
        SystemExit: always; code 2 when the extra ``cli`` is not installed, 141 and 74 when standard
            output could not be written.
    """
    try:
        _run()
    except KeyboardInterrupt:  # while it starts: later, each command has its own way to end
        raise SystemExit(INTERRUPTED) from None


def _run() -> None:
    _open_the_standard_files()
    output: Output | None = None
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout = output = Output(sys.stdout)
    if isinstance(sys.stderr, io.TextIOWrapper):
        sys.stderr.reconfigure(errors=plainly())
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
    if output is None:  # somebody else's, as in a test
        app()
        return
    code: str | int | None = 1
    try:
        app()
    except SystemExit as end:
        code = end.code
    except OSError as error:
        if error is not output.failure:
            raise
    raise SystemExit(outcome(output, code) if isinstance(code, int) else code)


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
