"""One run from the command line's options to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
from collections import deque
from collections.abc import AsyncIterator, Coroutine
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from redisutils import PoolStatus, create_redis_pool
from redisutils.cli.demo.day import TradingDay
from redisutils.cli.demo.failover.run import KillOptions, run_failover
from redisutils.cli.demo.figures import History, Sample, resident_bytes
from redisutils.cli.demo.frame import Facts, Frame, View
from redisutils.cli.demo.plot import draw
from redisutils.cli.demo.source import Source
from redisutils.cli.demo.stage import Mode, staged
from redisutils.cli.demo.summary import Finished, summary
from redisutils.cli.demo.view import LiveView, PlainView
from redisutils.cli.running import ending_early, loop_factory, server_info, server_words, target
from redisutils.errors import ConfigError, RedisUtilsError
from redisutils.secret import Secret

if TYPE_CHECKING:
    from rich.console import Console

    from redisutils import RedisConfig, RedisPool

__all__ = ["Options", "kill_one", "run"]

INTERVAL: Final = 0.25
"""Seconds between samples, which are also frames of the view."""
DEFAULT_SECONDS: Final = 10.0
"""Of a simulated tape, which has no end of its own."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to run. Without any limit a tape is replayed in full, and a simulated one for
    ``DEFAULT_SECONDS``, or until Ctrl-C if there is a dashboard to look at."""

    source: Source
    url: Secret | None = None
    """The server; None for the one that the environment names."""
    tasks: int = 50
    seconds: float | None = None
    trades: int | None = None
    speed: float | None = None
    plot: Path | None = None
    live: bool = True
    """A live view if the console is a terminal; False is always one line a second."""
    dashboard: int | None = None
    """The port of the dashboard, which is served while it runs; 0 for any free one."""
    mode: Mode | None = None
    """Servers to start for the run; None for those that are named."""


def run(options: Options, console: Console) -> int:
    """Run the demo on an event loop of its own, uvloop's where there is one.

    Returns:
        0 when something was traded, every value was right, no event was lost and the ledger
        balances, or else 1; 2 for settings that are wrong.
    """
    return _exit_code(_run(options, console))


def kill_one(options: KillOptions, console: Console) -> int:
    """Run the demo in which a primary dies, as :func:`run` does.

    Returns:
        See :func:`run_failover`; 2 for settings that are wrong.
    """
    return _exit_code(run_failover(options, console, _dashboard))


def _exit_code(work: Coroutine[Any, Any, int]) -> int:
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(work)
    except ConfigError as error:
        print(f"redisutils demo: {error}", file=sys.stderr)
        return 2
    except (RedisError, RedisUtilsError) as error:
        print(f"redisutils demo: {error}", file=sys.stderr)
        return 1


async def _run(options: Options, console: Console) -> int:
    if options.mode is None or options.mode == "standalone":
        config = target(options.url if options.mode is None else "embedded://")
        return await _run_on(config, options, console)
    async with staged(options.mode) as stage:
        return await _run_on(stage.config, options, console, stage.words)


async def _run_on(config: RedisConfig, options: Options, console: Console, words: str = "") -> int:
    async with create_redis_pool(config) as pool, _dashboard(pool, options.dashboard) as url:
        facts = Facts(
            source=_source(options),
            tasks=options.tasks,
            server=words or server_words(await server_info(pool.client, "server"), config),
            limit=_limit(options),
            dashboard=url,
        )
        day = TradingDay(
            pool,
            {one.symbol: one for one in options.source.instruments},
            itertools.islice(options.source.trades(), options.trades),
            tasks=options.tasks,
            speed=options.speed,
        )
        history = History()
        live = options.live and console.is_terminal and not console.is_dumb_terminal
        with (
            ending_early(day.stop) as interrupted,
            LiveView(console, facts) if live else PlainView(console, facts) as view,
        ):
            try:
                status = await _watch(day, pool, options, history, view)
                metrics = pool.metrics()
            finally:
                await day.clean()
        finished = Finished(
            facts=facts,
            day=day,
            metrics=metrics,
            status=status,
            memory=resident_bytes(),
            paced=options.speed is not None,
            interrupted=bool(interrupted),
        )
    console.print(summary(finished))
    if options.plot is not None:
        try:
            draw(finished, history.samples, options.plot)
        except OSError as error:
            print(f"redisutils demo: --plot {options.plot}: {error.strerror}", file=sys.stderr)
            return 1
        console.print(f"  latency plot: {options.plot}\n", highlight=False, soft_wrap=True)
    return 0 if day.right else 1


@contextlib.asynccontextmanager
async def _dashboard(pool: RedisPool, port: int | None) -> AsyncIterator[str]:
    """Serve it on this machine's loopback. Yields where; empty if ``port`` is None.

    Raises:
        ConfigError: the port is taken.
    """
    if port is None:
        yield ""
        return
    from redisutils.cli.serve.hosting import CannotListen, Host, addresses, listen
    from redisutils.monitor.app import monitor_app

    try:
        sockets = listen(addresses("127.0.0.1"), port)
    except CannotListen as error:
        raise ConfigError(f"--dashboard-port {port}: {error}") from None
    app = monitor_app(pool)
    async with Host(app, sockets, any_name=False) as host:
        app.feed.start()  # whoever opens it sees the run from its beginning
        yield host.url


async def _watch(
    day: TradingDay, pool: RedisPool, options: Options, history: History, view: View
) -> PoolStatus:
    """Run ``day`` to its end, sampling and showing it meanwhile.

    Returns:
        The pool's status when it was last seen at work.
    """
    seconds = _seconds(options)
    # The first picture takes longest: before the clock runs.
    status, metrics = pool.status(), pool.metrics()
    nothing = Sample(0.0, 0.0, 0, 0, 0, 0.0, 0.0, 0.0, 0.0)
    view.show(Frame(0.0, _fraction(options, seconds, 0.0, 0), nothing, (), day, status, metrics))
    running = asyncio.create_task(day.run(seconds))
    began = last = perf_counter()
    commands, trades, fills = metrics.commands, 0, 0
    rates: deque[float] = deque(maxlen=200)
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=INTERVAL)
            now = perf_counter()
            if not running.done():
                status = pool.status()
            metrics, traded, filled = pool.metrics(), day.trades, day.fills
            trips, feeds = day.timings.take_recent()
            sample = Sample(
                at=now - began,
                seconds=now - last,
                commands=metrics.commands - commands,
                trades=traded - trades,
                fills=filled - fills,
                p50=trips.p50,
                p95=trips.p95,
                p99=trips.p99,
                feeds_p99=feeds.p99,
            )
            last, commands, trades, fills = now, metrics.commands, traded, filled
            if running.done() and sample.seconds < INTERVAL / 2 and history.samples:
                break  # a sliver of an interval says nothing about rates
            history.add(sample)
            rates.append(sample.commands / sample.seconds)
            done = _fraction(options, seconds, sample.at, traded)
            view.show(Frame(sample.at, done, sample, tuple(rates), day, status, metrics))
        await running
        return status
    finally:
        # Only if a view or the pool failed: desks must not outlive what they work on.
        running.cancel()
        await asyncio.wait({running})


def _seconds(options: Options) -> float | None:
    if _is_endless(options):
        return DEFAULT_SECONDS if options.dashboard is None else None
    return options.seconds


def _is_endless(options: Options) -> bool:
    """Whether nothing was said of when to end."""
    return options.seconds is None and options.trades is None and not options.source.ends


def _fraction(options: Options, seconds: float | None, elapsed: float, trades: int) -> float | None:
    parts = []
    if seconds:
        parts.append(elapsed / seconds)
    if options.trades:
        parts.append(trades / options.trades)
    return min(1.0, max(parts)) if parts else None


def _limit(options: Options) -> str:
    limits = []
    if seconds := _seconds(options):
        limits.append(f"{seconds:g} s")
    if options.trades:
        limits.append(f"{options.trades:,} trades")
    if options.source.ends:
        limits.append("the tape's end")
    return " or ".join(limits[:2])


def _source(options: Options) -> str:
    pace = "" if options.speed is None else f" at {options.speed:,g} times real time"
    return options.source.words + pace
