"""What the command lines of the runs of minutes have in common: soak and chaos."""

from __future__ import annotations

import argparse
import asyncio
import math
import sys

import uvloop

from redisutils.testing import find_servers

LOOPS = {"uvloop": uvloop.new_event_loop, "asyncio": asyncio.new_event_loop}
"""What makes an event loop, by the name that ``--loop`` knows."""


def say(text: str) -> None:
    """Print a line at once, also where standard output is a file."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def parser(prog: str, description: str, *, minutes: float, seed_of: str) -> argparse.ArgumentParser:
    """A parser of ``--minutes``, ``--seed``, ``--server`` and ``--loop``.

    Args:
        prog: how the program is called.
        description: what it does.
        minutes: how long it takes unless told otherwise.
        seed_of: what the seed decides.
    """
    servers = list(find_servers())
    made = argparse.ArgumentParser(prog=prog, description=description)
    default = "default: %(default)s"
    made.add_argument(
        "--minutes", type=_minutes, default=minutes, help="of the whole run; default: %(default)g"
    )
    made.add_argument("--seed", type=int, help=f"of {seed_of}; default: any")
    made.add_argument("--server", choices=servers, default=servers[0], help=default)
    made.add_argument("--loop", choices=list(LOOPS), default="uvloop", help=default)
    return made


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = 0.0
    if not (minutes > 0 and math.isfinite(minutes)):
        raise argparse.ArgumentTypeError(f"{text} must be a number greater than 0")
    return minutes
