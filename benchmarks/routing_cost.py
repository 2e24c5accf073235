"""What routing costs a command in a cluster: ``python -m benchmarks.routing_cost``.

By itself: the road of a packed command to the lane of its node, where nothing takes it, and the
same without the road. That is the same work each time, so the least of many short runs is what it
takes; whatever else the machine does only adds to the others.

In use: processor time of the client for a GET by 50 tasks, on a server without a cluster, on a
cluster of one primary and on one of three, in turns. The first two differ by routing; three servers
besides answer in more and smaller portions, which is no part of routing. On a busy machine all
portions are small, and these figures are of no use.
"""

from __future__ import annotations

import argparse
import sys
from contextlib import ExitStack
from statistics import median
from time import process_time
from typing import Any

import redis
import uvloop

from benchmarks.box import Box
from benchmarks.cluster.routing import CALLS, by_itself, gets
from benchmarks.machine import Cores, pinned
from benchmarks.measures import getters
from benchmarks.server import KEYS, key_name, large_value, small_value
from redisutils import RedisPool, create_redis_pool
from redisutils.connection.packing import pack
from redisutils.testing import EmbeddedCluster, EmbeddedServer

LIMIT = 2.0
"""Microseconds that routing may cost a command."""

_TASKS = 50
_TURNS = 9


def _commands() -> dict[str, list[bytes]]:
    """Packed commands by what they are."""
    numbers = range(CALLS)
    names = [key_name(number % KEYS) for number in numbers]
    return {
        "GET": gets(),
        "GET of a key with a hash tag": [
            pack(("GET", f"md:{{BTC{number % 100:03d}}}:q")) for number in numbers
        ],
        "SET of 32 bytes": [pack(("SET", name, small_value(0))) for name in names],
        "SET of 10 kB": [pack(("SET", name, large_value(0))) for name in names],
        "HSET of 10 fields": [
            pack(("HSET", name, *[word for n in range(10) for word in (f"field{n}", b"value")]))
            for name in names
        ],
    }


async def _in_use(pools: dict[str, RedisPool], seconds: float) -> dict[str, float]:
    """Microseconds of this process for a GET, by where it goes: medians."""
    found: dict[str, list[float]] = {name: [] for name in pools}
    for _ in range(_TURNS):
        for name, pool in pools.items():
            box = Box(seconds)
            began = process_time()
            rate = await box.run(getters(pool.client.get, _TASKS))
            found[name].append((process_time() - began) / (rate * box.elapsed) * 1e6)
    return {name: median(values) for name, values in found.items()}


async def _measure(
    server: EmbeddedServer, clusters: dict[str, EmbeddedCluster], seconds: float
) -> tuple[dict[str, float], dict[str, float]]:
    pools = {"one server": await create_redis_pool(url=server.url)}
    for name, cluster in clusters.items():
        pools[name] = await create_redis_pool(**_places(cluster))
    try:
        for pool in pools.values():
            for number in range(KEYS):
                await pool.client.set(key_name(number), small_value(number))
        used = await _in_use(pools, seconds)
        return await by_itself(pools["a cluster of 3"], _commands()), used
    finally:
        for pool in pools.values():
            await pool.close()


def _places(cluster: EmbeddedCluster) -> dict[str, Any]:
    nodes = [f"{node.host}:{node.port}" for node in cluster.nodes]
    return {"mode": "cluster", "nodes": nodes, "password": cluster.password}


def main() -> int:
    """Print both. 1 if routing by itself costs a GET more than ``LIMIT``."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.routing_cost", description="What routing costs a command."
    )
    parser.add_argument(
        "--seconds", type=float, default=0.3, help="of each turn in use, default: %(default)s"
    )
    options = parser.parse_args()
    cores = Cores.choose()
    try:
        with ExitStack() as stack:
            with pinned(cores.server):
                server = stack.enter_context(EmbeddedServer(config={"save": ""}))
                clusters = {
                    f"a cluster of {count}": stack.enter_context(
                        EmbeddedCluster(count, config={"save": ""})
                    )
                    for count in (1, 3)
                }
            with pinned(cores.client):
                alone, used = uvloop.run(_measure(server, clusters, options.seconds))
    except (redis.RedisError, OSError) as error:
        print(f"Not measured: {error}", file=sys.stderr)
        return 2
    print("Routing by itself:")
    for name, cost in alone.items():
        print(f"  {name:<30} {cost:6.2f} µs")
    print(f"The client's processor time for a GET by {_TASKS} tasks:")
    for name, cost in used.items():
        print(f"  {name:<30} {cost:6.2f} µs")
    return 0 if alone["GET"] <= LIMIT else 1


if __name__ == "__main__":
    sys.exit(main())
