"""The numbers and pictures of ``docs/scaling.md``.

``python -m benchmarks.simulate_cluster`` prints the tables; ``--plots FOLDER`` draws, ``--ticks
FILE`` adds how bursty the trades of a file are, and ``--measure`` asks a server of your own what
the constants of :mod:`benchmarks.simulation.server_costs` should be. The same seed gives the same
numbers everywhere.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.simulation import connections, plots, refresh, server_costs, slots, storm
from benchmarks.simulation import ticks as trades
from benchmarks.simulation.connections import Fleet
from benchmarks.simulation.loss import Failover
from benchmarks.simulation.server_costs import COSTS

MAXCLIENTS = 10_000
"""The servers' default."""

NAME_SETS = 100
"""How many sets of symbols slot load is the median of."""

SYMBOL_NAMING = slots.NAMINGS[2].title
"""The naming that the document recommends."""

PODS, LANES, CALLERS = 500, 2, 50
DOWN = 3.0
"""Seconds for which a server is gone."""
LEFT = 2
"""Of three primaries, when one has died."""

MIB = 2**20


def main() -> int:
    """Do what the command line asks for."""
    options = _parser().parse_args()
    if options.measure:
        for name, value in server_costs.measure().items():
            unit = f"{value:,.0f} bytes" if name.count("bytes") else f"{value * 1e6:,.1f} µs"
            print(f"{name}: {unit}")
        return 0
    pictures: Path | None = options.plots
    if pictures is not None:
        pictures.mkdir(parents=True, exist_ok=True)
    _connections(pictures)
    _slots(options.seed, pictures)
    if options.ticks is not None:
        _ticks(options.ticks)
    _storm(options.seed, pictures)
    _refresh(options.seed, pictures)
    _loss()
    return 0


def table(title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print Markdown, padded so that it can be read as it is."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        first, *others = zip(cells, widths, strict=True)
        padded = [first[0].ljust(first[1]), *(cell.rjust(width) for cell, width in others)]
        return f"| {' | '.join(padded)} |"

    rule = [f"{'-' * (width - 1)}:" for width in widths]
    rule[0] = "-" * widths[0]
    print(f"\n### {title}\n")
    print("\n".join([line(header), line(rule), *map(line, rows)]))


def _mib(count: float) -> str:
    return f"{count / MIB:,.1f}" if count < 10 * MIB else f"{count / MIB:,.0f}"


def _connections(pictures: Path | None) -> None:
    fleets = [
        ("1 pod", Fleet(1)),
        ("10 pods", Fleet(10)),
        ("100 pods", Fleet(100)),
        ("500 pods", Fleet(500)),
        ("500 pods, 3 lanes", Fleet(500, lanes=3)),
        ("500 pods, 3 lanes, 4 checkouts", Fleet(500, lanes=3, checkouts=4)),
        ("500 pods of 4 processes, 2 lanes", Fleet(500, processes=4, lanes=2)),
        ("500 pods, the pool of 10 full", Fleet(500, checkouts=9)),
        ("500 pods, a pooled client of 50", Fleet(500, checkouts=49)),
    ]
    table(
        "Connections",
        [
            "fleet",
            "at each primary",
            "while deploying",
            "maxclients",
            "memory, idle to busy, MiB",
            "sockets in a pod, 3 primaries",
            "12 primaries",
        ],
        [
            [
                name,
                f"{fleet.at_node:,.0f}",
                f"{fleet.at_node_rolling:,.0f}",
                f"{connections.maxclients_for(fleet.at_node_rolling, replicas=2):,}",
                " to ".join(
                    _mib(fleet.at_node * each) for each in (COSTS.idle_bytes, COSTS.busy_bytes)
                ),
                f"{fleet.in_pod(3):,.0f}",
                f"{fleet.in_pod(12):,.0f}",
            ]
            for name, fleet in fleets
        ],
    )
    if pictures is not None:
        lines = {
            "1 lane": Fleet(1),
            "3 lanes": Fleet(1, lanes=3),
            "3 lanes, 4 processes": Fleet(1, processes=4, lanes=3),
            "a pooled client of 50": Fleet(1, checkouts=49),
        }
        plots.connections(
            pictures / "scaling-connections.svg",
            {
                name: [(pods, replace(fleet, pods=pods).at_node) for pods in range(0, 501, 10)]
                for name, fleet in lines.items()
            },
            "3 lanes",
            MAXCLIENTS,
        )


def _slots(seed: int, pictures: Path | None) -> None:
    sizes = (3, 6, 12, 24)
    loads: dict[str, list[dict[int, float]]] = {
        naming.title: [slots.load(naming, seed + number) for number in range(NAME_SETS)]
        for naming in slots.NAMINGS
    }
    rows = []
    for naming in slots.NAMINGS:
        cells = [f"{naming.title}: `{naming.example}`"]
        hottest = slots.spread([max(load.values()) for load in loads[naming.title]])
        cells.append(f"{hottest.median * 100:.1f} %")
        for nodes in sizes:
            found = slots.spread(
                [slots.busiest_node(load, nodes) * nodes for load in loads[naming.title]]
            )
            cells.append(f"{found.median:.2f} ({found.p95:.2f})")
        rows.append(cells)
    table(
        f"Slot load: the busiest primary, in multiples of an even share "
        f"(median and 95th percentile of {NAME_SETS} sets of names)",
        ["keys", "hottest slot", *(f"{nodes} primaries" for nodes in sizes)],
        rows,
    )
    symbols = slots.zipf(slots.SYMBOLS, slots.SYMBOL_EXPONENT)
    table(
        "Popularity",
        ["symbols", "share of market data", "of all commands"],
        [
            [
                f"the first {count}" if count > 1 else "the first",
                f"{sum(symbols[:count]) * 100:.1f} %",
                f"{sum(symbols[:count]) * slots.MARKET * 100:.1f} %",
            ]
            for count in (1, 10, 50, 250)
        ],
    )
    if pictures is not None:
        plots.capacity(
            pictures / "scaling-slots.svg",
            {
                title: [
                    (n, 1 / slots.spread([slots.busiest_node(load, n) for load in many]).median)
                    for n in range(1, 33)
                ]
                for title, many in loads.items()
            },
            SYMBOL_NAMING,
        )


def _ticks(path: Path) -> None:
    table(
        "Bursts of one symbol's trades",
        ["window", "mean", "one in 100", "busiest", "busiest ÷ mean"],
        [
            [
                f"{found.window * 1000:,.0f} ms",
                f"{found.mean:,.1f}/s",
                f"{found.p99:,.0f}/s",
                f"{found.most:,.0f}/s",
                f"{found.most / found.mean:,.0f}",
            ]
            for found in trades.bursts(path)
        ],
    )


def _storm(seed: int, pictures: Path | None) -> None:
    for title, file, connect, per_turn in (
        ("without TLS", "scaling-storm.svg", COSTS.connect, storm.PER_TURN),
        ("with TLS", "scaling-storm-tls.svg", COSTS.connect_tls, storm.PER_TURN_TLS),
    ):
        outcomes = {}
        for policy in storm.POLICIES:
            random.seed(seed)  # of the policies, which are the library's own
            outcomes[policy.title] = storm.Storm(
                policy,
                pods=PODS,
                lanes=LANES,
                down=DOWN,
                connect=connect,
                per_turn=per_turn,
                seed=seed,
            ).run()
        count = PODS * LANES
        table(
            f"A server of {count:,} connections is gone for {DOWN:g} s, {title} "
            f"({connect * 1e6:,.0f} µs for a connection)",
            [
                "clients try again",
                "refused",
                "at most in 10 ms",
                "dropped by the kernel",
                "prepared in vain",
                "busy with it",
                "half connected",
                "all",
            ],
            [
                [
                    name,
                    f"{found.refused:,}",
                    f"{found.peak:,}",
                    f"{found.dropped:,}",
                    f"{found.wasted:,}",
                    f"{found.busy:.2f} s",
                    f"{found.half:.2f} s",
                    f"{found.last:.2f} s",
                ]
                for name, found in outcomes.items()
            ],
        )
        if pictures is not None:
            plots.storm(
                pictures / file,
                {
                    name: [(0.0, count), *found.waiting, (5.0, found.waiting[-1][1])]
                    for name, found in outcomes.items()
                    if name != "every 50 ms"
                },
                "redisutils",
                f"{PODS} pods, {LANES} lanes each, gone for {DOWN:g} s; "
                f"{connect * 1e6:,.0f} µs of the server for each, {title}",
            )


def _refresh(seed: int, pictures: Path | None) -> None:
    found = {
        asking: refresh.simulate(
            asking, pods=PODS, tasks=CALLERS, nodes=LEFT, outage=DOWN, seed=seed
        )
        for asking in refresh.Asking
    }
    table(
        f"{PODS} pods with {CALLERS} callers each lose a primary for {DOWN:g} s; "
        f"{LEFT} others answer",
        [
            "who looks at the map",
            "looks",
            "at one node in 10 ms",
            "longest stall",
            "after 1 s",
            "of each node's processor",
        ],
        [
            [
                asking.value,
                f"{looks.total:,}",
                f"{looks.peak:,}",
                f"{looks.stall * 1000:,.1f} ms",
                f"{looks.later_stall * 1000:,.1f} ms",
                f"{looks.processor * 100:,.1f} %",
            ]
            for asking, looks in found.items()
        ],
    )
    if pictures is not None:
        plots.looks(
            pictures / "scaling-map.svg",
            {
                asking.value: [(number / 100, count) for number, count in enumerate(looks.timeline)]
                for asking, looks in found.items()
            },
            refresh.OURS.value,
            f"{PODS} pods, {CALLERS} callers each, {DOWN:g} s until its replica has taken over; "
            "logarithmic",
        )


def _loss() -> None:
    tuned = Failover(
        writes_per_second=5_000,
        replication_lag=0.001,
        node_timeout=5.0,
        down_after=5.0,
        election=1.0,
    )
    cases = [
        ("timeouts by default, 15 s and 30 s", replace(tuned, node_timeout=15.0, down_after=30.0)),
        ("both 5 s", tuned),
        ("and min-replicas-max-lag 2", replace(tuned, max_lag=2.0)),
        ("and the replica 200 ms behind", replace(tuned, max_lag=2.0, replication_lag=0.2)),
    ]
    partition = 60.0
    table(
        f"Acknowledged writes lost at most, at {tuned.writes_per_second:,.0f} a second",
        [
            "setting",
            "the primary dies",
            "cut off for a minute: Cluster",
            "Sentinel",
            "no writes for: Cluster",
            "Sentinel",
        ],
        [
            [
                name,
                f"{case.crash:,.0f}",
                f"{case.split_cluster(partition):,.0f}",
                f"{case.split_sentinel(partition):,.0f}",
                f"{case.node_timeout + case.election:g} s",
                f"{case.down_after + case.election:g} s",
            ]
            for name, case in cases
        ],
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.simulate_cluster",
        description="Connections, slots, reconnecting and map refreshes of a fleet, simulated.",
    )
    parser.add_argument("--seed", type=int, default=1, help="default: %(default)s")
    parser.add_argument("--plots", type=Path, metavar="FOLDER", help="draw pictures into it")
    parser.add_argument(
        "--ticks", type=Path, metavar="FILE", help="CSV of trades with DateTime, may be gzipped"
    )
    parser.add_argument(
        "--measure", action="store_true", help="only measure what connections and maps cost here"
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
