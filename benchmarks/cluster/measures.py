"""How the workloads measure that only a cluster has."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from itertools import cycle, islice
from time import perf_counter, process_time

from benchmarks.box import Box, Worker
from benchmarks.cluster.keys import moving, split
from benchmarks.contenders.clusters.base import ClusterClient
from benchmarks.measures import (
    SAMPLE,
    WrongReply,
    expect,
    getters,
    pairs_from,
    throughput,
)

_MGET = 50

_PAUSE = 0.01
"""Seconds after which a caller whose call failed tries again."""

_PATIENCE = 1.0
"""Seconds after which a caller gives up by itself: as a program does that has a use for the answer
only within that time."""


async def mget(client: ClusterClient, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """MGET of keys all over the slots; counts keys."""

    def worker(task: int) -> Worker:
        pairs = list(islice(pairs_from(task * _MGET), _MGET))
        keys = [key for key, _ in pairs]
        values = [value for _, value in pairs]

        async def work(box: Box) -> int:
            done = 0
            while not (done and box.over):
                expect(list(await client.mget(keys)), values)
                done += _MGET
            return done

        return work

    return await throughput([worker(task) for task in range(tasks)], warmup, box)


async def processor(client: ClusterClient, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """Processor time of this whole process for a GET, µs: all its threads, user and system."""
    workers = getters(client.get, tasks)
    await warmup.run(workers)
    began = process_time()
    done = await box.run(workers) * box.elapsed
    return {"cpu": (process_time() - began) / done * 1e6}


async def routing(client: ClusterClient, _tasks: int, _warmup: Box, _box: Box) -> dict[str, float]:
    """What finding the node takes of a GET, µs; the same work however long a box is."""
    return {"cost": await client.routing()}


async def while_moving(
    client: ClusterClient, tasks: int, warmup: Box, box: Box
) -> dict[str, float]:
    """GET of the keys whose slots are moved meanwhile; a call that fails is counted and done with.

    The reply of every call is looked at: a key that seems to be missing is no answer at all.
    """
    failed = 0

    def worker(task: int) -> Worker:
        async def work(box: Box) -> int:
            nonlocal failed
            done = 0
            pairs: Iterator[tuple[str, bytes]] = islice(cycle(moving()), task * 7, None)
            for key, value in pairs:
                try:
                    expect(await client.get(key), value)
                    done += 1
                except WrongReply:
                    raise
                except Exception:  # noqa: BLE001  # whatever a library raises is a failed call
                    failed += 1
                    await asyncio.sleep(_PAUSE)
                if box.over:
                    break
            return done

        return work

    workers = [worker(task) for task in range(tasks)]
    await warmup.run(workers)
    failed = 0
    answered = await box.run(workers)
    done = answered * box.elapsed
    return {"ops": answered, "failed": failed / (failed + done) * 10_000}


async def outage(client: ClusterClient, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """Callers of all slots, as many on each node; then one node is killed. What those of the
    others get done, in hundredths of what they got done before.

    A caller whose call fails tries again after a pause, one that hears nothing gives up.
    """
    victim = client.server.nodes[-1]
    healthy, lost = split(victim)
    on_victim = tasks // len(client.server.nodes)
    ended = 0.0
    """When the last reader ended. Those who wait for the dead node may do so for longer."""

    def reader(task: int) -> Worker:
        async def work(box: Box) -> int:
            nonlocal ended
            done = 0
            for key, value in islice(cycle(healthy), task * 7, None):
                try:
                    async with asyncio.timeout(_PATIENCE):
                        reply = await client.get(key)
                except Exception:  # noqa: BLE001  # each library raises its own for a dead node
                    await asyncio.sleep(_PAUSE)
                else:
                    if not done & SAMPLE:
                        expect(reply, value)
                    done += 1
                if box.over:
                    break
            ended = perf_counter()
            return done

        return work

    def unlucky(task: int) -> Worker:
        async def work(box: Box) -> int:
            for key in islice(cycle(lost), task * 7, None):
                try:
                    async with asyncio.timeout(_PATIENCE):
                        await client.get(key)
                except Exception:  # noqa: BLE001  # the dead node's callers fail, whatever the error
                    await asyncio.sleep(_PAUSE)
                if box.over:
                    break
            return 0

        return work

    workers = [unlucky(task) for task in range(on_victim)]
    workers += [reader(task) for task in range(tasks - on_victim)]

    async def rate(box: Box) -> float:
        began = perf_counter()
        done = await box.run(workers) * box.elapsed
        return done / (ended - began)

    await warmup.run(workers)
    before = await rate(Box(box.seconds))
    os.kill(victim.pid, signal.SIGKILL)
    during = await rate(box)
    return {"ops": during, "share": during / before * 100}
