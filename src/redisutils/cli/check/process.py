"""This side: what Python, its event loop and the system's limits do for us."""

from __future__ import annotations

import asyncio
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Final

from redisutils.cli.check.case import Case
from redisutils.cli.check.finding import Say
from redisutils.cli.check.units import listed

__all__ = ["check_process"]

SPARE: Final = 64
"""Files that a program has open besides its connections."""


async def check_process(case: Case, say: Say) -> None:
    """The step."""
    loop = type(asyncio.get_running_loop()).__module__.partition(".")[0]
    libraries = [f"{name} {found}" for name in ("redis", "hiredis") if (found := _version(name))]
    implementation = platform.python_implementation()
    say.ok(
        f"{implementation} {platform.python_version()}, {loop}'s event loop, {listed(libraries)}",
        python=platform.python_version(),
        implementation=implementation,
        loop=loop,
        libraries=libraries,
    )
    if loop != "uvloop" and sys.platform != "win32":
        say.note(
            "uvloop is not installed: asyncio's own event loop is about half as quick",
            "`pip install uvloop`, and uvloop.run(main()) in your program.",
        )
    if asyncio.get_running_loop().get_debug():
        say.warning(
            "asyncio is in debug mode (PYTHONASYNCIODEBUG, -X dev): all is several times slower",
            "Unset PYTHONASYNCIODEBUG and PYTHONDEVMODE.",
        )
    if case.loaded.config is not None:
        _files(case.loaded.config.pool_max_size, say)


def _files(connections: int, say: Say) -> None:
    try:
        import resource
    except ImportError:  # Windows
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    if soft < connections + SPARE:
        say.error(
            f"this process may open {soft:,} files, and REDIS_POOL_MAX_SIZE={connections} takes as "
            "many as it says",
            f"`ulimit -n {max(1024, 2 * connections)}` before it starts, or LimitNOFILE= in its "
            "systemd unit; or lower REDIS_POOL_MAX_SIZE.",
            soft=soft,
            hard=hard,
        )
    else:
        say.ok(f"it may open {soft:,} files, enough for {connections} connections", soft=soft)


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""
