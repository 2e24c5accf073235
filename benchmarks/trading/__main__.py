"""The command line: ``python -m benchmarks.trading``."""

from __future__ import annotations

import sys

from benchmarks import command
from benchmarks.contenders.trading import ROSTER
from benchmarks.goals import Goal
from benchmarks.suite import Suite, Wording
from benchmarks.trading.feeds import SUBSCRIBERS
from benchmarks.trading.orders import ORDERS
from benchmarks.trading.stage import stage
from benchmarks.trading.ticks import INSTRUMENTS
from benchmarks.trading.workloads import WORKLOADS, covers

SUITE = Suite(
    catalogue="benchmarks.trading.workloads",
    roster=ROSTER,
    workloads=WORKLOADS,
    stage=stage,
    covers=covers,
    wording=Wording(
        stem="trading",
        title="Benchmark of the trading services",
        introduction=(
            "Every measurement runs in a process of its own, on uvloop, against the same server. "
            "redis-py is what one writes by hand on it (`benchmarks/contenders/trading/by_hand`): "
            "pipelines, MULTI, WATCH, decimals as strings. It does less: each of its files says "
            "what it leaves out. Both are given the same ticks, made into their own records "
            "beforehand.\n\n"
            f"Quotes are a tick below and above each trade's price, of {len(INSTRUMENTS)} "
            "instruments in turn, from one task of one process; written is what was put, and the "
            "time runs until the server has answered all of it. Of those that are conflated, the "
            "share that went out is told; by hand, to put one is to enter it into a dict, "
            "unchecked and without a bound. A quote that reads as it did before is not decoded "
            "again by redisutils; so there is a row in which each changes a hundred times a "
            "second.\n\n"
            "The feed is of one instrument, published by the same process that has its "
            f"{SUBSCRIBERS} readers, by hand as well with one subscription and a queue for each. "
            "Counted are deliveries: quotes that a reader's own `async for` got; what was "
            "conflated is none. Updates come singly, so that nearly none is, or eight at once. "
            "The publisher is never more than 256 ahead, so none is dropped. The delay is that of "
            "500 updates a second, of all deliveries.\n\n"
            "Trades are the whole tape once; its bars are read back and compared to the last "
            f"digit. Executions have the tape's prices and quantities, over {ORDERS:,} orders and "
            f"{len(INSTRUMENTS)} positions; totals are read back and compared. All of it without "
            "a disk: servers keep neither snapshots nor an append-only file."
        ),
        peers=("redis-py",),
        base="redis-py",
        chart_title="Trading services relative to the same by hand on redis-py",
        goals=(
            Goal("quotes.ops", 100_000),
            Goal("conflated.ops", 150_000),
            Goal("latest-50.share", 80),
            Goal("feed-conflate.ops", 300_000),
            Goal("feed-drop.ops", 300_000),
            Goal("feed-block.ops", 300_000),
            Goal("executions-50.ops", 8_000),
            Goal("executions-burst.ops", 8_000),
            Goal("start.seconds", 3),
            Goal("start.walks", 0),
        ),
    ),
)

if __name__ == "__main__":
    sys.exit(
        command.main(
            SUITE,
            "python -m benchmarks.trading",
            "Compare the trading services with the same by hand, side by side on this machine.",
        )
    )
