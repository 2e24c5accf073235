"""How the workloads measure.

Each compares a part of the replies with what the key must hold, and no two keys hold
the same: a client that gives no replies, or mixes them up, fails instead of being fast.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext, suppress
from itertools import count, cycle, islice
from statistics import median
from time import perf_counter_ns
from typing import Any

from benchmarks.box import Box, Worker
from benchmarks.contenders.base import Client, Contender
from benchmarks.machine import open_sockets, resident_bytes
from benchmarks.server import KEYS, PREFIX, key_name, large_value, small_value

SAMPLE = 15
"""A reply is checked when its number has none of these bits: every 16th."""

_TURNS = 10
"""Pairs of boxes with and without measuring."""

PIPELINE = 100
_CHANNEL = f"{PREFIX}channel"
PAIRS = [(key_name(number), small_value(number)) for number in range(KEYS)]


class WrongReply(Exception):
    """A contender returned something else than the server holds."""


def expect(reply: object, wanted: object) -> None:
    """WrongReply unless that is what came."""
    if reply != wanted:
        raise WrongReply(f"expected {wanted!r:.100}, got {reply!r:.100}")


def confirm(reply: object) -> None:
    """WrongReply for a SET that was not confirmed."""
    if not reply:
        raise WrongReply(f"a SET was answered with {reply!r:.100}")


def pairs_from(task: int) -> Iterator[tuple[str, bytes]]:
    """All keys with their values, for ever, each task beginning with another one."""
    return islice(cycle(PAIRS), task * 7 % KEYS, None)


async def throughput(workers: Sequence[Worker], warmup: Box, box: Box) -> dict[str, float]:
    """Operations per second of ``workers`` in ``box``, as ``ops``."""
    await warmup.run(workers)
    return {"ops": await box.run(workers)}


def getters(call: Callable[[str], Awaitable[Any]], tasks: int) -> list[Worker]:
    """So many tasks that each GET by ``call``, all over the keys."""

    def worker(task: int) -> Worker:
        async def work(box: Box) -> int:
            done = 0
            for key, value in pairs_from(task):
                reply = await call(key)
                if not done & SAMPLE:
                    expect(reply, value)
                done += 1
                if box.over:
                    break
            return done

        return work

    return [worker(task) for task in range(tasks)]


async def get(contender: Client, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """GET, all over the keys."""
    return await throughput(getters(contender.get, tasks), warmup, box)


async def checkout(contender: Contender, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """GET, each on a connection that is checked out for it."""
    return await throughput(getters(contender.checkout_get, tasks), warmup, box)


async def bare_checkout(
    contender: Contender, tasks: int, warmup: Box, box: Box
) -> dict[str, float]:
    """The same by what lies below the library's methods."""
    return await throughput(getters(contender.bare_checkout_get, tasks), warmup, box)


async def latency(contender: Client, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """GET, each call timed by its caller, so waiting for the loop is in it. Microseconds."""
    call = contender.get
    took: list[int] = []

    async def timed(key: str) -> Any:
        begun = perf_counter_ns()
        reply = await call(key)
        took.append(perf_counter_ns() - begun)
        return reply

    workers = getters(timed, tasks)
    await warmup.run(workers)
    took.clear()
    await box.run(workers)
    took.sort()
    return {
        "p50": took[len(took) * 50 // 100] / 1e3,
        "p99": took[len(took) * 99 // 100] / 1e3,
    }


async def measuring(contender: Contender, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """GET with our measuring and without, in turns: what it takes off the throughput, in
    hundredths. In one process, since two differ by more than that."""
    workers = getters(contender.get, tasks)
    await warmup.run(workers)
    part = max(0.1, box.seconds / _TURNS)
    costs = []
    for turn in range(_TURNS):
        rates = {}
        for on in (True, False) if turn % 2 else (False, True):  # neither is always the first
            with nullcontext() if on else contender.without_measuring():
                rates[on] = await Box(part).run(workers)
        costs.append(100 * (1 - rates[True] / rates[False]))
    return {"cost": median(costs)}


async def mixed(contender: Client, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """Four GETs, then a SET of what the key holds already."""
    get_ = contender.get
    set_ = contender.set

    def worker(task: int) -> Worker:
        async def work(box: Box) -> int:
            done = 0
            for key, value in pairs_from(task):
                if done % 5 == 4:
                    confirm(await set_(key, value))
                else:
                    reply = await get_(key)
                    if not done & SAMPLE:
                        expect(reply, value)
                done += 1
                if box.over:
                    break
            return done

        return work

    return await throughput([worker(task) for task in range(tasks)], warmup, box)


async def set_large(contender: Client, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """SET of 10 kB, each task to a key of its own; in the end all are read back."""
    set_ = contender.set
    values = {f"{PREFIX}large:{task}": large_value(task) for task in range(tasks)}

    def worker(key: str, value: bytes) -> Worker:
        async def work(box: Box) -> int:
            done = 0
            while not (done and box.over):
                confirm(await set_(key, value))
                done += 1
            return done

        return work

    result = await throughput([worker(*item) for item in values.items()], warmup, box)
    for key, value in values.items():
        expect(await contender.get(key), value)
    return result


async def pipelines(contender: Client, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """GET and SET in turns, no transaction; counts commands, not pipelines."""

    def worker(task: int) -> Worker:
        pairs = list(islice(pairs_from(task * PIPELINE), PIPELINE))
        batch = [(key, value if n % 2 else None) for n, (key, value) in enumerate(pairs)]
        values = [value for _, value in pairs[::2]]

        async def work(box: Box) -> int:
            done = 0
            while not (done and box.over):
                replies = await contender.pipeline(batch)
                expect(len(replies), PIPELINE)
                expect(list(replies[::2]), values)
                confirm(all(replies[1::2]))
                done += PIPELINE
            return done

        return work

    return await throughput([worker(task) for task in range(tasks)], warmup, box)


async def acquire(contender: Contender, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """Take a connection and give it back. Before and after, one must work."""
    call = contender.acquire_release

    async def work(box: Box) -> int:
        done = 0
        while not (done and box.over):
            await call()
            done += 1
            if not done & 63:
                # Where nothing has to be waited for, the clock would never get its turn.
                await asyncio.sleep(0)
        return done

    key, value = PAIRS[0]
    expect(await contender.bare_checkout_get(key), value)
    result = await throughput([work] * tasks, warmup, box)
    expect(await contender.bare_checkout_get(key), value)
    return result


async def pubsub(contender: Contender, tasks: int, warmup: Box, box: Box) -> dict[str, float]:
    """Each task publishes, waits until the subscriber has its message, and so on.

    Every message must arrive exactly once: one too many is a KeyError, one too few
    never ends, and the process is stopped from outside.
    """
    publish = contender.publish
    loop = asyncio.get_running_loop()
    numbers = count()
    awaited: dict[int, asyncio.Future[None]] = {}
    subscribed = asyncio.Event()

    async def receive() -> None:
        async with contender.subscribe(_CHANNEL) as payloads:
            subscribed.set()
            async for payload in payloads:
                awaited.pop(int(payload)).set_result(None)

    async def work(box: Box) -> int:
        done = 0
        while not (done and box.over):
            number = next(numbers)
            arrival = awaited[number] = loop.create_future()
            await publish(_CHANNEL, str(number))
            await arrival
            done += 1
        return done

    receiver = asyncio.create_task(receive())
    senders = asyncio.create_task(_after(subscribed, [work] * tasks, warmup, box))
    try:
        # The receiver ends first only by failing.
        await asyncio.wait((receiver, senders), return_when=asyncio.FIRST_COMPLETED)
        if receiver.done():
            receiver.result()
        return await senders
    finally:
        for task in (senders, receiver):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def _after(
    event: asyncio.Event, workers: Sequence[Worker], warmup: Box, box: Box
) -> dict[str, float]:
    await event.wait()
    return await throughput(workers, warmup, box)


async def memory(contender: Contender, _tasks: int, _warmup: Box, _box: Box) -> dict[str, float]:
    """Open the pool's size of connections, one GET on each, and keep them. MiB, as ps and
    Kubernetes count.

    What is added is less than what the connections take: they fill the room that importing
    left in the heap first.
    """
    before, sockets = resident_bytes(), open_sockets()
    pairs = list(islice(pairs_from(0), contender.connections))
    replies = await contender.hold_open([key for key, _ in pairs])
    expect(list(replies), [value for _, value in pairs])
    after, opened = resident_bytes(), open_sockets() - sockets
    if opened < len(pairs):
        raise WrongReply(f"{opened} connections were opened, not {len(pairs)}")
    return {"resident": after / 2**20, "added": (after - before) / 2**20}
