"""The scenarios: what is done, what is counted, and what a perfect client would show.

The texts go into the page of results as they stand.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from benchmarks.faults.measure import Measure, Unit
from benchmarks.faults.scenarios import blocking, callers, pubsub, restart, silence, writes
from benchmarks.faults.stage import Figures, Stage
from redisutils.retry import LONGEST_PAUSE

__all__ = ["SCENARIOS", "Scenario"]


@dataclass(frozen=True)
class Scenario:
    """One fault."""

    key: str
    title: str
    done: str
    """What the network or the server does, and the callers."""
    counted: str
    perfect: str
    measures: tuple[Measure, ...]
    play: Callable[[Stage], Awaitable[Figures]]
    deadline: float = 40.0
    """Seconds after which its process is killed."""
    durable: bool = False
    """Whether the server has to write everything to disk before it answers."""


def _duration(key: str, title: str, limit: float, patience: float | None = None) -> Measure:
    return Measure(key, title, Unit.SECONDS, limit, patience)


_ALL = (
    Scenario(
        "swallowed",
        f"{writes.WRITES:,} INCRs, replies swallowed",
        f"{writes.CALLERS} tasks issue {writes.WRITES:,} INCRs, each of a key of its own, so that "
        "every one can be looked up afterwards. About "
        f"every {writes.WRITES // writes.STRIKES} INCRs the network lets the server execute what "
        f"a packet holds, swallows the reply and resets the connection. Budget {writes.BUDGET:g} s "
        "a call.",
        "Keys that were incremented more than once; keys whose INCR was acknowledged and that are "
        "missing; calls that raised; errors that neither say whether the write happened nor that "
        "it is unknown, or that say it wrongly. Clients that send many tasks' commands over one "
        "connection lose more replies at each reset: more of their calls have to fail.",
        "Nothing twice, nothing missing; an error for each lost reply, which says that the "
        "outcome is unknown.",
        (
            Measure("doubled", "applied twice", Unit.COUNT, 0),
            Measure("missing", "acknowledged but missing", Unit.COUNT, 0),
            Measure("failed", "calls that raised", Unit.COUNT, None),
            Measure("untold", "errors that tell no outcome", Unit.COUNT, 0),
        ),
        writes.swallowed,
    ),
    Scenario(
        "cancelled",
        f"{callers.CALLS:,} GETs, a third given up",
        f"{callers.CALLERS} tasks issue {callers.CALLS:,} GETs of unique values. Replies arrive in "
        f"fragments of {callers.FRAGMENT} bytes. {callers.GIVING_UP:.0%} of the calls are "
        f"cancelled or time out within {callers.WITHIN * 1000:g} ms.",
        "Replies that belong to another key; calls that have not ended after "
        f"{callers.HANGING:g} s; errors of callers who did not give up; connections that the "
        "client opened meanwhile.",
        "No wrong reply, no hung call, no error; no more connections than callers.",
        (
            Measure("wrong", "wrong replies", Unit.COUNT, 0),
            Measure("hung", "calls that hung", Unit.COUNT, 0),
            Measure("failed", "errors of patient callers", Unit.COUNT, 0),
            Measure("connections", "connections opened", Unit.COUNT, callers.CALLERS + 10),
        ),
        callers.cancelled,
    ),
    Scenario(
        "silent",
        f"A silent server, budget {silence.BUDGET:g} s",
        f"{silence.CALLERS} tasks issue a GET each, with a budget of {silence.BUDGET:g} s, to a "
        "server that has been stopped (SIGSTOP), and through a network that has begun to swallow "
        "every byte and to accept connections without an answer.",
        f"How long the slowest call took until it raised; {silence.PATIENCE:g} s were waited for.",
        f"{silence.BUDGET:g} s.",
        (
            _duration("stopped", "slowest call, server stopped", 0.75, silence.PATIENCE),
            _duration("blackhole", "slowest call, blackhole", 0.75, silence.PATIENCE),
        ),
        silence.silent,
    ),
    Scenario(
        "half-open",
        "Half-open connections",
        "Every open connection falls silent, without an end, while the server answers on new "
        f"ones. {silence.HALF_OPEN_CALLERS} tasks call GET until they are answered, with a budget "
        f"of {silence.HALF_OPEN_BUDGET:g} s a call.",
        f"How long until every task was answered, up to {silence.HALF_OPEN_PATIENCE:g} s; calls "
        "that raised.",
        "Well within the budget, without an error: a GET may be sent again.",
        (
            _duration("back", "all answered after", 1.5, silence.HALF_OPEN_PATIENCE),
            Measure("failed", "calls that raised", Unit.COUNT, 0),
        ),
        silence.half_open,
    ),
    Scenario(
        "killed",
        "Server killed and restarted",
        f"{restart.CALLERS} tasks GET and SET with a budget of {restart.BUDGET:g} s a call, while "
        f"the server is killed (SIGKILL) and started again {restart.DOWN:g} s later, with an "
        "append-only file that it syncs before it answers.",
        "Calls that raised; how long until every task was answered again, from the moment at "
        "which the server answers; acknowledged SETs that are not there in the end. redisutils "
        f"pauses for up to {LONGEST_PAUSE:g} s between two attempts to connect, so that many "
        "clients do not storm a server that comes back; anything below a second counts as well.",
        "No error: reads and SETs may be sent again, and the budget covers the outage.",
        (
            Measure("failed", "calls that raised", Unit.COUNT, 0),
            _duration("back", "all answered after", 1.0, restart.AFTER),
            Measure("missing", "acknowledged but missing", Unit.COUNT, 0),
        ),
        restart.killed,
        durable=True,
    ),
    Scenario(
        "crowded",
        f"{callers.CROWD:,} callers, {callers.POOL} connections",
        f"{callers.CROWD:,} tasks each take a connection of a pool of {callers.POOL}, GET on it "
        f"and give it back, over and over for {callers.CROWD_SECONDS:g} s. They wait "
        f"{callers.CROWD_BUDGET:g} s for a connection at most.",
        "Calls that raised; most sockets at the server; callers who never got a turn; the most "
        "turns that a caller got compared with the mean.",
        f"No error, {callers.POOL} sockets, as many turns for each.",
        (
            Measure("failed", "calls that raised", Unit.COUNT, 0),
            Measure("sockets", "most sockets at the server", Unit.COUNT, callers.POOL),
            Measure("turnless", "callers without a turn", Unit.COUNT, 0),
            Measure("spread", "luckiest caller ÷ mean", Unit.RATIO, 2.0),
        ),
        callers.crowded,
    ),
    Scenario(
        "beside",
        f"GETs beside a BLPOP of {blocking.BLOCKED:g} s",
        f"One task waits {blocking.BLOCKED:g} s in a BLPOP of an empty list. Another issues a GET "
        f"on the same client every {blocking.SPACING * 1000:g} ms, whether or not those before "
        "were answered.",
        "The 99th percentile of the GETs; the longest time in which nobody was answered.",
        "As if there were no BLPOP: a few milliseconds.",
        (
            _duration("p99", "p99 of the GETs", 0.1),
            _duration("stalled", "longest standstill", 0.25),
        ),
        blocking.beside,
    ),
    Scenario(
        "abandoned",
        f"{blocking.ROUNDS} BLPOPs cancelled, then a push",
        "A task that waits in BLPOP is cancelled. Once the server has nobody waiting, and "
        f"{blocking.GRACE:g} s later at the latest, something is pushed to the list. "
        f"{blocking.ROUNDS} times.",
        "How often it is gone, although nobody received it.",
        "Never.",
        (Measure("lost", "items lost", Unit.COUNT, 0),),
        blocking.abandoned,
    ),
    Scenario(
        "subscriber",
        "A subscriber cut off",
        "The connection of a subscriber is reset, and new ones are refused for "
        f"{pubsub.DOWN:g} s, while messages are published.",
        "How long until messages arrive again once connections are accepted, up to "
        f"{pubsub.PATIENCE:g} s; whether anything that the subscriber reads shows the gap: an "
        "exception, or a second confirmation of the subscription.",
        "Back within a second, and told.",
        (
            _duration("back", "messages again after", 1.0, pubsub.PATIENCE),
            Measure("told", "told of the gap", Unit.YES, 1),
        ),
        pubsub.cut_off,
    ),
)

SCENARIOS: dict[str, Scenario] = {scenario.key: scenario for scenario in _ALL}
