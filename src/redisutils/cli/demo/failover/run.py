"""From the options to the exit code."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from redisutils import create_redis_pool
from redisutils.cli.demo.failover.account import account
from redisutils.cli.demo.failover.story import Story
from redisutils.cli.demo.failover.view import Facts, Lines, Picture
from redisutils.cli.demo.stage import staged
from redisutils.cli.running import ending_early

if TYPE_CHECKING:
    from rich.console import Console

    from redisutils import RedisPool
    from redisutils.cli.demo.failover.view import View

__all__ = ["KillOptions", "run_failover"]

INTERVAL: Final = 0.25
"""Seconds between two pictures."""

SECONDS: Final = 12.0
"""Of a run for which no other time was given. An election takes two of them."""

FIRST_PART: Final = 0.25
"""The part of the time after which a primary is killed."""

Dashboard = Callable[["RedisPool", int | None], AbstractAsyncContextManager[str]]


@dataclass(frozen=True, slots=True)
class KillOptions:
    """What to run."""

    mode: Literal["cluster", "sentinel"]
    tasks: int = 50
    seconds: float | None = None
    live: bool = True
    dashboard: int | None = None
    """Its port; 0 for any free one, None for none."""


async def run_failover(options: KillOptions, console: Console, dashboard: Dashboard) -> int:
    """Run it.

    Args:
        dashboard: serves the pool's dashboard on a port, and yields where.

    Returns:
        0 when a primary was killed, another took over, and nothing happened that must not; what
        the servers lost by themselves is told, and is no fault of the client's. Else 1.
    """
    seconds = options.seconds or SECONDS
    what = "an embedded cluster" if options.mode == "cluster" else "embedded sentinels"
    console.print(f"starting {what} …", style="dim")
    async with (
        staged(options.mode) as stage,
        create_redis_pool(stage.config) as pool,
        dashboard(pool, options.dashboard) as url,
    ):
        facts = Facts(stage.words, options.tasks, seconds, url)
        story = Story(pool.client, stage, options.tasks)
        live = options.live and console.is_terminal
        view = Picture(console, facts) if live else Lines(console, facts)
        with ending_early(story.stop) as interrupted, view:
            try:
                await _watch(story, pool, view, seconds)
                metrics = pool.metrics()
            finally:
                await story.clean()
    console.print(account(facts, story, metrics, bool(interrupted)))
    return 0 if story.right else 1


async def _watch(story: Story, pool: RedisPool, view: View, seconds: float) -> None:
    running = asyncio.create_task(story.run(seconds, seconds * FIRST_PART))
    before = pool.metrics()
    try:
        while not running.done():
            await asyncio.wait({running}, timeout=INTERVAL)
            now = pool.metrics()
            view.show(story, before, now)
            before = now
        await running
    finally:
        # Only if a view or the pool failed: tasks must not outlive what they work on.
        running.cancel()
        await asyncio.wait({running})
