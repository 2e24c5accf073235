"""A finished run, as it is shown, saved, compared, and printed by ``--json``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, TypeAdapter, ValidationError

from redisutils.cli.drawing import share
from redisutils.metrics import PARTS, LatencySnapshot, MetricsSnapshot

__all__ = [
    "PERCENTILES",
    "Client",
    "Open",
    "Record",
    "RecordError",
    "Row",
    "Settings",
    "Spread",
    "load_record",
    "parts_at",
    "to_json",
]

PERCENTILES: Final = (50.0, 90.0, 95.0, 99.0, 99.9, 99.99)

MAX_FILE: Final = 8_000_000
"""Bytes of a saved run, at most: an honest one has some 50,000."""

Count = Annotated[int, Field(ge=0)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class RecordError(Exception):
    """A file is no saved run. The message names it."""


@dataclass(frozen=True, slots=True)
class Spread:
    """Durations in seconds, within 1.6 %."""

    count: Count
    mean: Seconds
    max: Seconds
    values: tuple[tuple[Seconds, Annotated[int, Field(ge=1)]], ...]
    """Ascending, each with how many there were of it."""

    @classmethod
    def of(cls, shot: LatencySnapshot) -> Spread:
        """What the histogram holds."""
        return cls(shot.count, shot.mean, shot.max, tuple(shot.spread()))

    def percentile(self, percent: float) -> float:
        """The duration that ``percent`` of a hundred do not exceed; 0 if there are none."""
        rank, upto = -(-self.count * percent // 100), 0
        for seconds, count in self.values:
            upto += count
            if upto >= rank:
                return min(seconds, self.max)
        return self.max


@dataclass(frozen=True, slots=True)
class Row:
    """One command of the mix, or all pipelines."""

    name: str
    calls: Count
    failed: Count
    service: Spread
    response: Spread | None


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for."""

    mix: dict[str, int]
    size: tuple[int, int]
    tasks: int
    seconds: float
    warmup: float
    keys: int
    pipeline: Annotated[int, Field(ge=1)]
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None
    """Commands per second; None for as many as there could be."""
    arrivals: Literal["poisson", "constant"]

    @property
    def words(self) -> str:
        """What is sent, for reading."""
        whole = sum(self.mix.values())
        mix = ", ".join(f"{name} {share(weight / whole)}" for name, weight in self.mix.items())
        low, high = self.size
        parts = [
            mix,
            f"{low:,} B" if low == high else f"{low:,} to {high:,} B",
            f"{self.keys:,} keys",
            f"{self.tasks:,} task{'s' if self.tasks > 1 else ''}",
        ]
        if self.pipeline > 1:
            parts.append(f"pipelines of {self.pipeline:,}")
        if self.rate:
            parts.append(f"{self.rate:,.0f}/s, {self.arrivals}")
        return " · ".join(parts)


@dataclass(frozen=True, slots=True)
class Open:
    """How the schedule was kept. Calls: pipelines count as one."""

    due: Count
    behind: Count
    """Due and not started when the time was over."""
    unstarted: Count
    """Never started: their response times are what they had waited."""
    late: Count
    """Started more than 1 ms late."""
    late_busy: Count
    """Those of them for which no task was free; the others started late since this program's
    event loop was."""
    lag: Spread
    """How late this program started what it could have started in time."""


@dataclass(frozen=True, slots=True)
class Client:
    """What the program that measures did itself."""

    cpu: Seconds
    """Share of one core."""
    memory: Count | None
    loop_lag_p99: Seconds
    loop_lag_max: Seconds
    gc_pauses: Count
    gc_pause_max: Seconds
    event_loop: str


@dataclass(frozen=True, slots=True)
class Record:
    """One run."""

    redisutils_bench: Literal[1]
    """The version of this format."""
    at: float
    """When it began (``time.time``)."""
    version: str
    server: str
    server_cpu: Seconds | None
    """Share of one core; None if the server did not tell."""
    settings: Settings
    seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    """How long was measured."""
    commands: Count
    """Answered as they should be."""
    rate: Seconds
    """Commands per second that were answered as they should be; with a schedule, of those that were
    started in time."""
    rate_held: bool | None
    """Whether 98 % of what was due was started in time; None without a schedule."""
    interrupted: bool
    bytes_in: Count
    bytes_out: Count
    rows: tuple[Row, ...]
    service: Spread
    response: Spread | None
    parts: dict[str, dict[str, Seconds]]
    """By percentile of what the pool measured: what a command is made of."""
    open: Open | None
    client: Client
    errors: dict[str, Count]
    """By class and outcome."""
    retries: dict[str, Count]
    examples: tuple[str, ...]

    @property
    def failed(self) -> int:
        """Calls that raised."""
        return sum(self.errors.values())

    @property
    def told(self) -> Spread:
        """What callers see: response times, and without a schedule, service times."""
        return self.service if self.response is None else self.response


@cache
def _form() -> TypeAdapter[Record]:
    """Made when first wanted: it takes longer than all else that a program's start needs."""
    return TypeAdapter(Record)


def to_json(record: Record) -> bytes:
    """As one JSON object, with a line for each key."""
    return _form().dump_json(record, indent=1) + b"\n"


def load_record(path: Path) -> Record:
    """A saved run.

    Raises:
        RecordError: it cannot be read, or is none.
    """
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE + 1)
    except OSError as error:
        raise RecordError(f"{path}: cannot be read: {error.strerror or error}") from None
    if len(text) > MAX_FILE:
        raise RecordError(f"{path}: longer than {MAX_FILE:,} bytes: no run of redisutils bench")
    try:
        return _form().validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise RecordError(
            f"{path}: not a run saved by redisutils bench --save"
            f" ({f'{place}: ' if place else ''}{first['msg'].lower()})"
        ) from None


def parts_at(metrics: MetricsSnapshot) -> dict[str, dict[str, float]]:
    """What commands are made of, at some percentiles and on average."""
    composition = metrics.composition
    found = {"mean": composition.mean().as_dict()}
    for percent in PERCENTILES:
        found[f"{percent:g}"] = composition.at(percent).as_dict()
    return {
        at: {part: max(0.0, split[part]) for part in PARTS}
        for at, split in found.items()
        if sum(split.values()) > 0
    }
