"""The stored list of the tests that pass with redis-py itself, per kind of server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from . import jobs, servers, source

FOLDER = Path(__file__).resolve().parent / "baseline"


@dataclass(frozen=True)
class Baseline:
    """What passes with redis-py, and where that was found out.

    ``passes`` maps a protocol (default, 2 or 3) to test names.
    """

    redis_py: str
    server: str
    passes: Mapping[str, frozenset[str]]

    def fits(self, redis_py: str, server: str) -> bool:
        """Whether it was made with this redis-py on this server, so that it needs no checking."""
        return (self.redis_py, self.server) == (redis_py, server)


def load(kind: str) -> Baseline | None:
    """Return the stored baseline of that kind of server, if there is one."""
    path = FOLDER / f"{kind}.json"
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    common = frozenset(stored["every protocol"])
    return Baseline(
        redis_py=stored["redis-py"],
        server=stored["server"],
        passes={name: common | frozenset(more) for name, more in stored["besides"].items()},
    )


def save(kind: str, baseline: Baseline) -> Path:
    """Store a baseline; what passes with every protocol is written only once."""
    common = frozenset.intersection(*baseline.passes.values())
    stored = {
        "redis-py": baseline.redis_py,
        "server": baseline.server,
        "besides": {name: sorted(tests - common) for name, tests in baseline.passes.items()},
        "every protocol": sorted(common),
    }
    FOLDER.mkdir(exist_ok=True)
    path = FOLDER / f"{kind}.json"
    path.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    return path


def update(wanted: jobs.Wanted, folder: Path) -> list[Path]:
    """Run redis-py itself twice, and store for each kind of server what passed both times."""
    runs = [jobs.collect(wanted, folder) for _ in range(2)]
    troubles = [text for run in runs for outcome in run.values() for text in outcome.broken]
    if troubles:
        raise source.SourceError("not stored, for the run was broken:\n" + "\n".join(troubles))
    written = []
    for kind in dict.fromkeys(kind for kind, _ in wanted.passes):
        passes = {
            protocol: frozenset(runs[0][kind, protocol].passed & runs[1][kind, protocol].passed)
            for server, protocol in wanted.passes
            if server == kind
        }
        found = Baseline(source.installed_version(), servers.describe(kind), passes)
        written.append(save(kind, found))
    return written
