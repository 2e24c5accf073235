"""Do the two clocks agree? TTLs given as moments (EXPIREAT), stream ids and sessions need it."""

from __future__ import annotations

import time
from typing import Final

from redisutils.cli.check.case import Case, cannot
from redisutils.cli.check.finding import Say
from redisutils.cli.check.units import span

__all__ = ["check_clock", "judge_clock"]

ASKED: Final = 5
"""Times; the quickest answer is the most exact."""

NOTABLE: Final = 0.1
"""Seconds apart that are more than clocks kept by NTP are."""
WRONG: Final = 1.0
BADLY_WRONG: Final = 30.0


async def check_clock(case: Case, say: Say) -> None:
    """The step."""
    best: tuple[float, float] | None = None
    for _ in range(ASKED):
        sent = time.time()
        [answer] = await case.ask(("TIME",))
        received = time.time()
        if not isinstance(answer, (tuple, list)):
            say.note(f"{cannot(answer)} ask for the server's time", "Grant `+time`.")
            return
        theirs = float(answer[0]) + float(answer[1]) / 1e6
        trip = received - sent
        if best is None or trip < best[0]:
            best = trip, theirs - (sent + received) / 2
    assert best is not None
    judge_clock(best[1], best[0] / 2, say)


def judge_clock(ahead: float, doubt: float, say: Say) -> None:
    """By how many seconds the server's clock is ahead of ours, give or take ``doubt``."""
    off = max(0.0, abs(ahead) - doubt)
    facts = {"ahead": ahead, "doubt": doubt}
    if off < NOTABLE:
        say.ok(f"the clocks agree within {span(abs(ahead) + doubt)}", **facts)
        return
    told = f"the server's clock is {span(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} ours"
    remedy = "Let NTP keep both machines' clocks: `timedatectl` or `chronyc tracking` tells."
    if off >= BADLY_WRONG:
        say.error(f"{told}: what expires at a given moment goes wrong", remedy, **facts)
    elif off >= WRONG:
        say.warning(told, remedy, **facts)
    else:
        say.note(told, remedy, **facts)
