"""A suite: which clients do what, where, and how the report words it. There are three, of one
server (``python -m benchmarks``), of a cluster (``python -m benchmarks.cluster``) and of what is
traded (``python -m benchmarks.trading``)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

from benchmarks.contenders import Entry
from benchmarks.goals import Goal
from benchmarks.machine import Cores
from benchmarks.server import Server
from benchmarks.workloads import Workload


class Stage(ABC):
    """The servers that a suite runs against."""

    @abstractmethod
    def server_for(self, contender: str) -> Server:
        """Where a contender connects."""

    @abstractmethod
    def describe(self) -> str:
        """What the servers are, for the report."""

    def facts(self) -> dict[str, str]:
        """What the reader of a report has to know about it."""
        return {"server": self.describe()}

    def around(self, _workload: Workload[Any]) -> AbstractContextManager[None]:
        """What happens to the servers while one contender does this workload."""
        return nullcontext()


@dataclass(frozen=True)
class Wording:
    """What a report says that only its suite knows."""

    stem: str
    """Of the file names in ``benchmarks/results``."""
    title: str
    introduction: str
    """Follows the sentence about rounds."""
    peers: tuple[str, ...]
    """Contenders to which ratios are shown."""
    base: str
    """The contender that the chart shows as 1."""
    chart_title: str
    goals: tuple[Goal, ...] = ()
    """Told beside what was measured; one that is missed fails nothing, since machines differ."""


@dataclass(frozen=True)
class Suite:
    """Everything that a run needs to know."""

    catalogue: str
    """The module that has ``WORKLOADS``, for the processes that measure."""
    roster: Mapping[str, Entry]
    workloads: Mapping[str, Workload[Any]]
    stage: Callable[[str | None, Cores], AbstractContextManager[Stage]]
    """Starts the servers; the first argument is a URL to use instead, where ``takes_url``."""
    covers: Callable[[Workload[Any], str], bool]
    """Whether a contender, redis-benchmark among them, can do the workload."""
    wording: Wording
    takes_url: bool = False
