"""How long a round trip takes, and where the time goes: the network and server, or this process."""

from __future__ import annotations

from time import perf_counter
from typing import Final

from redis.exceptions import ResponseError

from redisutils.cli.check.case import Case
from redisutils.cli.check.finding import Say
from redisutils.cli.check.units import span
from redisutils.metrics.split import Split

__all__ = ["check_latency", "judge_latency"]

PINGS: Final = 200
SECONDS: Final = 1.0
"""For all of them, at most."""
_FEWEST: Final = 5

_USUAL: Final = (
    (0.0003, "the same machine or rack"),
    (0.001, "the same zone"),
    (0.003, "another zone of the same region"),
    (0.02, "another region nearby, or a VPN"),
)
"""What is usual at a median of so many seconds."""

FAR: Final = 0.02
"""Seconds of a median beyond which trading at this distance makes no sense."""
LOOPBACK: Final = 0.001
"""Seconds of a median on one machine that show that it is busy."""
UNEVEN: Final = 0.01
"""Seconds of the 99th percentile that are felt, when it is ten times the median."""


async def check_latency(case: Case, say: Say) -> None:
    """The step."""
    assert case.pool is not None
    ask, name = case.client.execute_command, "PING"
    if await case.permissions.standing_for(["PING"]) is not None:
        # Always allowed, and on a shared connection refused by ourselves.
        ask, name = case.permissions.connection.execute, "HELLO"
    try:
        await ask(name)  # the lane's connection is opened by it
    except ResponseError as error:  # as from a server that cannot write to its disk
        say.note(f"the round trip cannot be measured: the server refuses {name} with {error}")
        return
    before = case.pool.metrics()
    times: list[float] = []
    started = now = perf_counter()
    for number in range(PINGS):
        if now - started > SECONDS and number >= _FEWEST:
            break
        await ask(name)
        earlier, now = now, perf_counter()
        times.append(now - earlier)
    times.sort()
    p50, p99 = times[len(times) // 2], times[len(times) * 99 // 100]
    parts = case.pool.metrics().since(before).composition.mean()
    judge_latency(len(times), p50, p99, times[-1], parts, say, local=case.local, name=name)


def judge_latency(
    count: int,
    p50: float,
    p99: float,
    top: float,
    parts: Split,
    say: Say,
    *,
    local: bool,
    name: str = "PING",
) -> None:
    """By what so many round trips took, seconds, and by the mean of their parts."""
    ours = parts.total - parts.wire
    facts = {
        "pings": count,
        "p50": p50,
        "p99": p99,
        "max": top,
        "split": parts.as_dict(),
    }
    told = f"{count} {name}s: half within {span(p50)}, 99 % within {span(p99)}, longest {span(top)}"
    usual = next((where for most, where in _USUAL if p50 <= most), "another continent")
    if p50 > FAR:
        say.warning(
            f"{told}: as usual for {usual}",
            "Run the program nearer to the server, or send more at a time: pipelines, gather().",
            **facts,
        )
    elif local and p50 > LOOPBACK:
        say.warning(
            f"{told}: slow for one machine",
            "Something is busy: `top` here, `redis-cli SLOWLOG GET` there; a virtual machine may "
            "get too little of its processor.",
            **facts,
        )
    elif p99 > UNEVEN and p99 > 10 * p50:
        say.note(
            f"{told}: uneven",
            "Look for whoever shares the processor or the line, and for slow commands (SLOWLOG).",
            **facts,
        )
    else:
        say.ok(f"{told}: as usual for {usual}", **facts)
    if parts.total:
        of = f"of a round trip {span(parts.wire)} are network and server, {span(ours)} this process"
        if ours > parts.wire and ours > LOOPBACK:
            say.note(
                of, "This process is what is slow: is its machine busy, or a debugger attached?"
            )
        else:
            say.ok(of, wire=parts.wire, process=ours)
