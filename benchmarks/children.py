"""What the processes that measure are given, and what they leave."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def environment() -> dict[str, str]:
    """The environment of a measuring process.

    Without REDIS_* and VALKEY_*: no variable of this shell may configure a contender. Run it
    in an empty directory, too, for the sake of ``.env``.
    """
    root = str(Path(__file__).resolve().parent.parent)
    env = {k: v for k, v in os.environ.items() if not k.startswith(("REDIS_", "VALKEY_"))}
    # Bytecode is cached, as it is wherever a package is installed: memory and import time
    # of the compiler are nobody's.
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    inherited = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p]
    env["PYTHONPATH"] = os.pathsep.join([root, *map(os.path.abspath, inherited)])
    return env


def last_words(child: subprocess.CompletedProcess[str]) -> str:
    """What went wrong in a worker: its own summary, or the end of what it wrote."""
    said = (child.stdout.strip() or child.stderr.strip()).splitlines()
    return said[-1][:300] if said else f"exit code {child.returncode}"


def summary(error: BaseException) -> str:
    """``error`` in one line; of a group, the first that went wrong."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return f"{type(error).__name__}: {error}".replace("\n", " ")
