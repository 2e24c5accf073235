"""From the command line's options to its exit code."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from redisutils.cli.check.case import Case
from redisutils.cli.check.figures import printable
from redisutils.cli.check.finding import Finding, Say, Stop
from redisutils.cli.check.report import Report
from redisutils.cli.check.steps import STEPS, Step
from redisutils.cli.check.units import span
from redisutils.cli.loading import load
from redisutils.errors import RedisUtilsError
from redisutils.secret import Secret

if TYPE_CHECKING:
    from redisutils.cli.check.view import View

__all__ = ["Options", "check", "run"]

TICK: Final = 0.1
"""Seconds between two pictures of a step that takes long."""


@dataclass(frozen=True, slots=True)
class Options:
    """What to check."""

    timeout: float = 5.0
    """Seconds for each step."""
    processes: int = 1
    """How many will have such a pool."""
    key: str = "trading:check"
    """Whose rights are looked at."""
    trying: bool = False
    """Whether what may be refused is tried, where the server does not say beforehand."""
    url: Secret | None = None
    """The server; None for the one that the environment names."""


def run(
    options: Options,
    view: View,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> Report:
    """Check, on an event loop of its own, and show it. Ctrl-C ends it in order."""
    report = Report()
    with view:
        started = perf_counter()
        try:
            with asyncio.Runner(loop_factory=loop_factory) as runner:
                runner.run(check(options, view, report))
        except KeyboardInterrupt:
            report.interrupted = True
        report.seconds = perf_counter() - started
        view.end(report)
    return report


async def check(options: Options, view: View, report: Report) -> None:
    """Take all steps, and put what they find into ``report``."""
    case = Case(load(options.url), options.timeout, options.processes, options.key, options.trying)
    report.endpoint = case.endpoint
    view.endpoint(case.endpoint)
    stuck: dict[str, str] = {}
    async with case.closing:
        for number, step in enumerate(STEPS, 1):
            why = stuck.get(step.after or "")
            if case.loaded.config is not None and not step.concerns(case):
                stuck |= {step.name: why} if why else {}
                continue
            if why is None and step.needs_info and not case.info:
                why = case.no_info or "the server has no INFO"
            if why is not None:
                report.skipped[step.name] = stuck[step.name] = why
                view.skipped(step.name, why)
                continue
            view.begin(step.name, number, len(STEPS))
            if not await _take(step, case, options.timeout, view, report):
                stuck[step.name] = f"{step.name} failed"


async def _take(step: Step, case: Case, timeout: float, view: View, report: Report) -> bool:
    """Take one step. Returns whether those after it can be taken."""

    def tell(finding: Finding) -> None:
        report.findings.append(finding)
        case.told.append(finding)
        view.found(finding)

    say = Say(step.name, tell)
    ticking = asyncio.create_task(_tick(view))
    try:
        async with asyncio.timeout(timeout):
            await step.run(case, say)
    except Stop:
        return False
    except TimeoutError:
        say.error(
            f"this takes longer than {span(timeout)}",
            "The server, or the network to it, is slow or frozen. `--timeout` gives it more.",
        )
        return False
    except (RedisError, RedisUtilsError, OSError) as error:
        say.error(
            f"{type(error).__name__}: {printable(error)}",
            "Read the server's log at this moment, and run the check again.",
        )
        return False
    except Exception as error:  # noqa: BLE001  # an odd answer of a server must not end the check
        # Where others stand on it, nothing of what was asked for is known.
        tell_of = say.error if any(one.after == step.name for one in STEPS) else say.warning
        tell_of(
            f"could not be judged: {type(error).__name__}: {printable(error)}",
            "Is it a server of another make, or a proxy? Look with `redis-cli` by hand.",
        )
        return False
    finally:
        ticking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await ticking
    return True


async def _tick(view: View) -> None:
    started = perf_counter()
    while True:
        await asyncio.sleep(TICK)
        view.tick(perf_counter() - started)
