"""The ``redisutils`` command. Its dependencies come with the extra ``cli``.

``main`` is importable without them, so that the installed command can say what is
missing instead of dying with a traceback.
"""

from __future__ import annotations

import io
import sys

__all__ = ["main"]

_OURS = frozenset({"typer", "rich"})
"""What the extra ``cli`` brings."""


def main() -> None:
    """Run the command line in ``sys.argv`` and exit with its code.

    Raises:
        SystemExit: always; code 2 when the extra ``cli`` is not installed.
    """
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
