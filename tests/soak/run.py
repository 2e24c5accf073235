"""The soak itself: users and weather, and a calm now and then."""

from __future__ import annotations

import asyncio
import logging
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import monotonic

from .calm import Baseline, Calm
from .comers import COMERS
from .everyday import EVERYDAY
from .owners import ACCOUNTS, OWNERS
from .samples import Sample, Sampler
from .verdict import judge
from .weather import Spell, Weather
from .world import User, World

__all__ = ["Plan", "Record", "soak"]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be run."""

    seconds: float = 600.0
    seed: int = 1
    server: str = "valkey"
    loop: str = "uvloop"
    calm_every: float = 60.0
    """Seconds from one calm to the next."""


@dataclass(slots=True)
class Record:
    """What came of it."""

    plan: Plan
    samples: list[Sample] = field(default_factory=list)
    calms: list[Calm] = field(default_factory=list)
    spells: list[Spell] = field(default_factory=list)
    """The faults."""
    complaints: list[str] = field(default_factory=list)
    """What must not be: empty when all is well."""
    outcomes: Counter[str] = field(default_factory=Counter)
    """How all calls ended."""
    worst_overrun: float = 0.0
    """How far past its budget a call has ended at most, s, without the loop's own lag."""
    interrupted: bool = False
    """Whether it was cancelled before its time."""
    weather: str = "fair"
    """What goes on at present."""


Show = Callable[[Record], None]


async def soak(plan: Plan, show: Show = lambda record: None) -> Record:
    """Run it. ``show`` is called about once a second, with what is seen so far: that is what
    there is of a run that is cancelled."""
    record = Record(plan)
    async with World(plan.server, plan.seed) as world:
        record.complaints = world.complaints
        with _all_heard(world.complain):
            await _run(plan, world, record, show)
    record.complaints.extend(judge(record.samples, record.calms))
    return record


async def _run(plan: Plan, world: World, record: Record, show: Show) -> None:
    began = monotonic()
    record.outcomes = world.calls.outcomes
    sampler = Sampler(world, began)
    record.samples = sampler.samples
    weather = Weather(world, began)
    record.spells = weather.spells
    await world.admin.mset(ACCOUNTS)
    users = [
        kind(world, number)
        for kind, count in {**EVERYDAY, **OWNERS, **COMERS}.items()
        for number in range(count)
    ]
    looked = asyncio.Event()
    background = [asyncio.create_task(world.pulse.beat())]
    background += [asyncio.create_task(user.live()) for user in users]
    background.append(asyncio.create_task(sampler.watch(looked)))
    background.append(asyncio.create_task(_report(record, weather, looked, show)))
    blowing: asyncio.Task[None] | None = None
    try:
        baseline = await _warm_up(plan, world, users, record, began)
        end = began + plan.seconds
        while monotonic() < end:
            world.gate.open()
            left = min(plan.calm_every, end - monotonic())
            blowing = asyncio.create_task(weather.blow(left))
            await asyncio.wait([blowing, *background], return_when="FIRST_COMPLETED")
            weather.abate()
            await blowing
            for task in background:
                if task.done():
                    task.result()
                    raise RuntimeError(f"{task} has come to an end")
            record.calms.append(await Calm.await_(world, users, began, baseline))
    except asyncio.CancelledError:
        record.interrupted = True
        record.complaints = list(world.complaints)  # What comes of tearing all down is no matter.
        raise
    finally:
        world.gate.open()
        if blowing is not None:
            background.append(blowing)
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        record.worst_overrun = world.calls.worst_overrun


async def _warm_up(
    plan: Plan, world: World, users: list[User], record: Record, began: float
) -> Baseline:
    """Let all of them do something in fair weather; what is there at rest after that is what has
    to be there ever after."""
    await asyncio.sleep(min(5.0, plan.seconds / 5))
    first = await Calm.await_(world, users, began, None)
    record.calms.append(first)
    return first.found


async def _report(record: Record, weather: Weather, looked: asyncio.Event, show: Show) -> None:
    while True:
        await looked.wait()
        looked.clear()
        record.weather = weather.now
        show(record)


@contextmanager
def _all_heard(complain: Callable[[str], None]) -> Iterator[None]:
    """Whatever would only be printed is a complaint: warnings, and errors that nobody awaited."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(
        lambda loop, context: complain(
            f"the event loop says: {context['message']}: {context.get('exception')!r}"
        )
    )
    background = logging.getLogger("redisutils")
    level, background.level = background.level, logging.CRITICAL  # outages are what this is about
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, category, place, line, *_, **__: complain(
            f"a warning: {place}:{line}: {category.__name__}: {message}"
        )
        try:
            yield
        finally:
            background.level = level
            loop.set_exception_handler(None)
