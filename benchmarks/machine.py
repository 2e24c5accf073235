"""The cores that are used, and the facts about the machine that a reader needs.

Every measured process loads this file, and its memory counts: what is needed for the
report only is imported where it is used.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Cores:
    """Which core serves whom. None: this system cannot pin, or there is only one."""

    server: int | None
    client: int | None
    note: str

    @classmethod
    def choose(cls) -> Cores:
        """Two cores that this process may use, of different physical cores if possible."""
        if not hasattr(os, "sched_setaffinity"):
            return cls(None, None, "server and clients not pinned: the system offers no way")
        usable = sorted(os.sched_getaffinity(0))
        if len(usable) < 2:
            return cls(None, None, "server and clients share the only core")
        server = usable[0]
        for client in reversed(usable[1:]):
            if client not in _siblings(server):
                return cls(server, client, "server and client pinned to a core each")
        return cls(
            server, usable[-1], "server and client pinned to a hyperthread each of the same core"
        )


def _siblings(cpu: int) -> set[int]:
    """The logical processors that share a physical core with ``cpu``, itself among them."""
    path = Path(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list")
    try:
        text = path.read_text().strip()
    except OSError:
        return {cpu}
    siblings: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        siblings.update(range(int(first), int(last or first) + 1))
    return siblings


@contextmanager
def pinned(cpu: int | None) -> Iterator[None]:
    """Processes started within run on ``cpu`` only: children inherit the mask.

    This process is moved there and back. None changes nothing.
    """
    if cpu is None or sys.platform != "linux":
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def allow_many_sockets() -> None:
    """Raise the limit of open files as far as this user may: 1,000 tasks want 1,000 sockets."""
    if sys.platform == "win32":
        return
    import resource  # does not exist on Windows

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def facts(cores: Cores, *, own_server: bool) -> dict[str, str]:
    """What to know about the machine, without naming it."""
    import platform  # see the top

    return {
        "system": f"{platform.system()}, {platform.machine()}, {os.cpu_count()} logical cores",
        "pinning": cores.note if own_server else "clients pinned to one core, server given by URL",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "uvloop": version("uvloop"),
        "hiredis": version("hiredis"),
    }


MISSING = "(unknown version)"
"""The version of what is not installed as a distribution."""


def version(distribution: str) -> str:
    """The installed version, or :data:`MISSING`."""
    from importlib import metadata  # see the top

    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return MISSING


def resident_bytes() -> int:
    """This process's resident memory now, from the kernel (Linux only).

    Raises OSError where there is no ``/proc``.
    """
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise OSError("the kernel reports no VmRSS")


def open_sockets() -> int:
    """How many sockets this process has open (Linux only, as above)."""
    folder = Path("/proc/self/fd")
    return sum(1 for entry in folder.iterdir() if _leads_to_socket(entry))


def _leads_to_socket(entry: Path) -> bool:
    try:
        return str(entry.readlink()).startswith("socket:")
    except OSError:  # the one that the listing itself had open
        return False
