"""The workloads of trading."""

from __future__ import annotations

from functools import partial
from typing import Any

from benchmarks.contenders import REFERENCE
from benchmarks.contenders.trading.base import Policy, TradingClient
from benchmarks.trading import feeds, orders, quotes, trades
from benchmarks.trading.ticks import INSTRUMENTS
from benchmarks.workloads import Metric, Workload, speed

START = "start"


def _percentiles(what: str) -> tuple[Metric, ...]:
    return (
        Metric("p50", f"{what}: p50", "µs", more_is_better=False),
        Metric("p99", f"{what}: p99", "µs", more_is_better=False),
    )


def _fan_out(policy: Policy, together: int = 1) -> Workload[TradingClient]:
    share: tuple[Metric, ...] = ()
    if policy == "conflate":
        share = (Metric("share", "… of the updates, each gets", "%"),)
    key, how = f"feed-{policy}", str(policy)
    if together > 1:
        key, how = f"{key}-{together}", f"{together} at once, {policy}"
    return Workload(
        key,
        (*speed(f"Feed to {feeds.SUBSCRIBERS}, {how}"), *share),
        partial(feeds.fan_out, policy=policy, together=together),
    )


_ALL: tuple[Workload[TradingClient], ...] = (
    Workload(
        "quotes",
        speed("Quotes written, each sent"),
        partial(quotes.write, conflate=False, laps=2),
    ),
    Workload(
        "conflated",
        (
            *speed("Quotes written, conflated"),
            Metric("sent", "… of them sent", "%"),
        ),
        partial(quotes.write, conflate=True, laps=5),
    ),
    Workload(
        "latest-50",
        (
            *speed("Latest quote, 50 tasks"),
            Metric("share", "… of a plain GET by the same client", "%"),
        ),
        quotes.latest,
        tasks=50,
    ),
    Workload(
        "latest-written-50",
        speed("Latest quote, 10,000/s written"),
        quotes.latest_while_written,
        tasks=50,
    ),
    Workload("latest-many", speed("Latest quotes, 100 at once"), quotes.latest_of_many, tasks=4),
    _fan_out("conflate"),
    _fan_out("drop"),
    _fan_out("block"),
    _fan_out("conflate", together=8),
    _fan_out("block", together=8),
    Workload(
        "feed-delay",
        _percentiles(f"From publishing to each of {feeds.SUBSCRIBERS} readers"),
        feeds.delay,
    ),
    Workload("trades", speed("Trades with bars of a minute"), trades.keep),
    Workload(
        "executions-50",
        (*speed("Executions, 50 tasks"), *_percentiles("… their delay")),
        orders.one_by_one,
        tasks=50,
    ),
    Workload(
        "executions-burst",
        speed("Executions, 1,000 at once"),
        orders.in_bursts,
        tasks=len(INSTRUMENTS),
    ),
    Workload(
        START,
        (
            Metric("seconds", f"Start with {orders.OPEN:,} open orders", "s", more_is_better=False),
            Metric("walks", "… calls of SCAN and KEYS", "calls", more_is_better=False),
        ),
        orders.start,
    ),
)

WORKLOADS = {workload.key: workload for workload in _ALL}


def covers(_workload: Workload[Any], contender: str) -> bool:
    """Whether ``contender`` can do it: all but redis-benchmark can."""
    return contender != REFERENCE
