"""One run from the command line's options to its exit code."""

from __future__ import annotations

import asyncio
import gc
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, process_time, time
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from redisutils import create_redis_pool
from redisutils.cli.bench.data import Data
from redisutils.cli.bench.figures import Figures
from redisutils.cli.bench.finish import finished
from redisutils.cli.bench.hgrm import hgrm
from redisutils.cli.bench.load import Load, Plan
from redisutils.cli.bench.plot import draw
from redisutils.cli.bench.record import Record, Settings, to_json
from redisutils.cli.bench.summary import summary
from redisutils.cli.bench.thresholds import Threshold
from redisutils.cli.bench.view import (
    LINES,
    Facts,
    Frame,
    LiveView,
    PlainView,
    QuietView,
    Times,
    View,
)
from redisutils.cli.drawing import size
from redisutils.cli.running import (
    ending_early,
    loop_factory,
    server_info,
    server_words,
    target,
)
from redisutils.errors import ConfigError, RedisUtilsError
from redisutils.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rich.console import Console

    from redisutils import Redis, RedisConfig, RedisPool
    from redisutils.metrics import LatencySnapshot

__all__ = ["BROKEN", "FAILED", "INTERRUPTED", "OK", "WRONG", "Options", "measure", "run"]

OK: Final = 0
FAILED: Final = 1
"""Errors happened, or the rate could not be held."""
WRONG: Final = 2
BROKEN: Final = 3
"""A ``--fail-if`` came true."""
INTERRUPTED: Final = 130

INTERVAL: Final = 0.5
"""Seconds between frames of the view."""

GRACE: Final = 300
"""Seconds that keys outlive the longest that a run may take."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to run, and what to make of it."""

    settings: Settings
    url: Secret | None = None
    """The server; None for the one that the environment names."""
    seed: int | None = None
    compare: tuple[Path, Record] | None = None
    save: Path | None = None
    plot: Path | None = None
    hgrm: Path | None = None
    thresholds: tuple[Threshold, ...] = ()
    json: bool = False
    live: bool = True


def run(options: Options, out: Console, progress: Console) -> int:
    """Run on an event loop of its own, uvloop's where there is one.

    Args:
        options: what to run.
        out: where the result goes.
        progress: where it is shown meanwhile.

    Returns:
        The exit code: 0; 1 when errors happened or the rate could not be held; 2 for settings
        that are wrong; 3 when a ``--fail-if`` came true; 130 when it was ended early.
    """
    try:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            record = runner.run(measure(options, progress))
    except ConfigError as error:
        return _complain(str(error), WRONG)
    except (RedisError, RedisUtilsError) as error:
        return _complain(str(error), FAILED)
    if record is None:
        return _complain("ended before anything was measured", INTERRUPTED)
    broken = [told for each in options.thresholds if (told := each.broken(record))]
    if options.json:
        out.file.write(to_json(record).decode())
    else:
        compared = (options.compare[0].name, options.compare[1]) if options.compare else None
        seen = _pictures(out)
        out.print(summary(record, compared, broken, width=out.width, pictures=seen))
    if not _write_files(options, record, out):
        return FAILED
    return _verdict(record, broken)


async def measure(options: Options, progress: Console) -> Record | None:
    """The same in the running event loop; None if it was ended before anything was measured.

    Raises:
        ConfigError: settings are wrong.
        redis.exceptions.RedisError: nobody answers, or the keys of the run cannot be stored.
    """
    return await _Bench(options, progress).run()


def _complain(what: str, code: int) -> int:
    print(f"redisutils bench: {what}", file=sys.stderr)
    return code


def _pictures(console: Console) -> bool:
    return console.encoding.lower().replace("-", "").startswith("utf")


def _write_files(options: Options, record: Record, out: Console) -> bool:
    """Write what was asked for; False if something could not be."""

    def plot(path: Path) -> None:
        draw(record, options.compare, path)

    writers = (
        ("--save", options.save, lambda path: path.write_bytes(to_json(record))),
        ("--hgrm", options.hgrm, lambda path: path.write_text(hgrm(record.told))),
        ("--plot", options.plot, plot),
    )
    for option, path, write in writers:
        if path is None:
            continue
        try:
            write(path)
        except OSError as error:
            _complain(f"{option} {path}: {error.strerror or error}", FAILED)
            return False
        if not options.json:
            out.print(f"  {option[2:]}: {path}", highlight=False, soft_wrap=True)
    return True


def _verdict(record: Record, broken: list[str]) -> int:
    for told in broken:
        _complain(told, BROKEN)
    if record.interrupted:
        return INTERRUPTED
    if record.failed or record.rate_held is False:
        return FAILED
    return BROKEN if broken else OK


class _Bench:
    """A run in its event loop."""

    def __init__(self, options: Options, console: Console) -> None:
        asked = self._settings = options.settings
        self._plan = Plan(asked.mix, asked.tasks, asked.pipeline, asked.rate, asked.arrivals)
        self._options = options
        self._console = console
        self._stopped = False
        self._load: Load | None = None
        self._began = 0.0

    async def run(self) -> Record | None:
        """All of it; None if it was ended before anything was measured."""
        asked = self._settings
        config = target(self._options.url)
        # Before anything is connected: a wrong size is told at once.
        longest = asked.seconds + asked.warmup + 2 * config.command_timeout
        data = Data(
            asked.mix, asked.keys, asked.size, int(longest) + GRACE, seed=self._options.seed
        )
        async with create_redis_pool(config) as pool:
            info = await server_info(pool.client, "server", "keyspace", "memory")
            self._warn(info, data, config)
            with ending_early(self._stop) as interrupted:
                try:
                    await data.store(pool.client, go_on=lambda: not self._stopped)
                    return await self._measure(pool, data, server_words(info, config), interrupted)
                finally:
                    await self._clean(pool.client, data)

    def _stop(self) -> None:
        self._stopped = True
        if self._load is not None:
            self._load.stop()

    def _warn(self, info: Mapping[str, Any], data: Data, config: RedisConfig) -> None:
        """One line each about what somebody may not have meant."""
        keys = sum(
            int(space.get("keys", 0))
            for name, space in info.items()
            if name.startswith("db") and isinstance(space, dict)
        )
        if keys and self._settings.rate is None and not config.embedded:
            self._say(
                f"{config.endpoint} holds {keys:,} keys of others, and without --rate this sends "
                "as much as it can: Ctrl-C ends it"
            )
        room = int(info.get("maxmemory", 0) or 0) - int(info.get("used_memory", 0) or 0)
        if info.get("maxmemory") and data.stored > room:
            self._say(
                f"the run stores about {size(data.stored)}, and the server has {size(max(0, room))}"
                " left of its maxmemory: it may refuse writes, or evict keys of others"
            )

    def _say(self, line: str) -> None:
        print(f"redisutils bench: {line}", file=sys.stderr)

    async def _clean(self, client: Redis, data: Data) -> None:
        if data.empty:
            return
        try:
            await data.delete(client)
        except (RedisError, RedisUtilsError) as error:
            self._say(
                f"the keys {data.prefix}* could not be deleted ({error}); "
                f"they expire by themselves within {data.ttl:,} s"
            )

    async def _measure(
        self, pool: RedisPool, data: Data, server: str, interrupted: list[int]
    ) -> Record | None:
        asked, plan = self._settings, self._plan
        facts = Facts(server, asked.words, asked.rate)
        with self._view(facts) as view:
            if asked.warmup and not self._stopped:
                warming = Figures(plan.rows)
                await self._watch(pool, data, warming, asked.warmup, "warming up", view)
            if self._stopped:
                return None
            # What has been made so far is here to stay, and need not be looked at again.
            gc.collect()
            gc.freeze()
            before, cpu_before = pool.metrics(), await _cpu(pool)
            began, wall = perf_counter(), time()
            figures = Figures(plan.rows)
            await self._watch(pool, data, figures, asked.seconds, "measuring", view)
            metrics = pool.metrics().since(before)
            cpu = await _cpu(pool)
            elapsed = perf_counter() - began
            gc.unfreeze()
        server_cpu = (cpu - cpu_before) / elapsed if cpu and cpu_before else None
        return finished(
            asked,
            figures,
            metrics,
            at=wall,
            server=server,
            server_cpu=server_cpu,
            interrupted=bool(interrupted),
            event_loop="uvloop" if loop_factory() else "asyncio",
        )

    def _view(self, facts: Facts) -> View:
        console = self._console
        tall = console.height >= LINES
        if self._options.live and console.is_terminal and tall and _pictures(console):
            return LiveView(console, facts)
        return QuietView() if self._options.json else PlainView(self._console, facts)

    async def _watch(
        self, pool: RedisPool, data: Data, figures: Figures, seconds: float, phase: str, view: View
    ) -> None:
        """Run the generator, showing it meanwhile."""
        plan = self._plan
        load = self._load = Load(pool.client, data, plan, figures, seed=self._options.seed)
        began = last = perf_counter()
        cpu, service, response = process_time(), figures.service(), figures.response()
        overdue = 0
        running = asyncio.create_task(load.run(seconds))
        try:
            while not running.done():
                await asyncio.wait({running}, timeout=INTERVAL)
                now, cpu_now = perf_counter(), process_time()
                if now - last < INTERVAL / 2:
                    break  # a sliver of an interval says nothing about rates
                service_now, response_now = figures.service(), figures.response()
                overdue_now = figures.overdue
                part = service_now.since(service)
                view.show(
                    Frame(
                        phase=phase,
                        elapsed=now - began,
                        fraction=min(1.0, (now - began) / seconds),
                        rate=max(0, part.count - overdue_now + overdue)
                        * plan.pipeline
                        / (now - last),
                        service=_three(part),
                        response=_three(response_now.since(response)) if plan.rate else None,
                        errors=_errors(figures),
                        backlog=load.backlog(),
                        cpu=(cpu_now - cpu) / (now - last),
                    )
                )
                last, cpu, overdue = now, cpu_now, overdue_now
                service, response = service_now, response_now
            await running
        finally:
            # Only if a view failed: tasks must not outlive what they work on.
            running.cancel()
            await asyncio.wait({running})


def _three(shot: LatencySnapshot) -> Times:
    return (shot.p50, shot.p99, shot.max) if shot.count else (None, None, None)


def _errors(figures: Figures) -> tuple[tuple[str, int], ...]:
    return tuple(
        (f"{name} {outcome}", count) for (name, outcome), count in figures.errors.most_common()
    )


async def _cpu(pool: RedisPool) -> float | None:
    """Processor seconds that the server has used; None if it does not tell, or is one of many."""
    if pool.config.mode == "cluster":
        return None
    try:
        info = await pool.client.info("cpu")
    except RedisError:
        return None
    try:
        return float(info["used_cpu_sys"]) + float(info["used_cpu_user"])
    except (KeyError, ValueError, TypeError):
        return None
