"""From what was counted to a record."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from redisutils.cli.bench.figures import LATE
from redisutils.cli.bench.record import Client, Open, Record, Row, Settings, Spread, parts_at
from redisutils.version import VERSION

if TYPE_CHECKING:
    from redisutils.cli.bench.figures import Figures
    from redisutils.metrics import MetricsSnapshot

__all__ = ["finished"]

MISSED: Final = 0.02
"""Share of what was due that may be behind at the end, for the rate to have been held."""

HICCUP: Final = 0.1
"""Seconds by which it may be behind in any case: whatever was in the way last, it is no trend."""


def finished(
    settings: Settings,
    figures: Figures,
    metrics: MetricsSnapshot,
    *,
    at: float,
    server: str,
    server_cpu: float | None,
    interrupted: bool,
    event_loop: str,
) -> Record:
    """The record of a run.

    Args:
        settings: what was asked for.
        figures: what the generator counted.
        metrics: what the pool counted meanwhile.
        at: when it began (``time.time``).
        server: what answers, and where.
        server_cpu: share of a core that the server used.
        interrupted: whether it was ended early.
        event_loop: whose it was.
    """
    on_time = settings.rate is not None
    seconds = figures.seconds or 1e-9
    rows = tuple(
        Row(
            row.name,
            row.service.snapshot().count - row.overdue,
            row.failed,
            Spread.of(row.service.snapshot()),
            Spread.of(row.response.snapshot()) if on_time else None,
        )
        for row in figures.rows.values()
    )
    commands = sum(row.calls for row in rows) * settings.pipeline
    started = figures.due - figures.behind
    process = metrics.process
    return Record(
        redisutils_bench=1,
        at=at,
        version=VERSION,
        server=server,
        server_cpu=server_cpu,
        settings=settings,
        seconds=seconds,
        commands=commands,
        rate=(max(0, started - figures.failed) * settings.pipeline if on_time else commands)
        / seconds,
        rate_held=_held(figures, settings) if on_time else None,
        interrupted=interrupted,
        bytes_in=metrics.bytes_in,
        bytes_out=metrics.bytes_out,
        rows=rows,
        service=Spread.of(figures.service()),
        response=Spread.of(figures.response()) if on_time else None,
        parts=parts_at(metrics),
        open=_open(figures) if on_time else None,
        client=Client(
            cpu=process.cpu_seconds / metrics.seconds,
            memory=process.memory,
            loop_lag_p99=process.loop_lag.p99,
            loop_lag_max=process.loop_lag.max,
            gc_pauses=process.gc_pauses.count,
            gc_pause_max=process.gc_pauses.max,
            event_loop=event_loop,
        ),
        errors={f"{name} {outcome}": n for (name, outcome), n in figures.errors.most_common()},
        retries=dict(metrics.retries),
        examples=tuple(figures.examples),
    )


def _held(figures: Figures, settings: Settings) -> bool:
    calls = (settings.rate or 0.0) / settings.pipeline
    return figures.behind <= max(MISSED * figures.due, HICCUP * calls)


def _open(figures: Figures) -> Open:
    lag = figures.lag.snapshot()
    late = lag.count - lag.at_most((LATE,))[0]
    return Open(
        due=figures.due,
        behind=figures.behind,
        unstarted=figures.unstarted,
        late=late + figures.busy,
        late_busy=figures.busy,
        lag=Spread.of(lag),
    )
