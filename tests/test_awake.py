"""While a few answers are awaited the loop is kept turning, but only where that pays."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from redisutils.connection import home, protocol
from redisutils.connection.home import ASLEEP, Home

from .peers import Wire, until

PONG = b"+PONG\r\n"
FOR_EVER = 1000.0


@pytest.fixture
async def wire(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Wire]:
    """Whoever stays awake does so until something comes."""
    monkeypatch.setattr(home, "AWAKE", FOR_EVER)
    async with Wire() as wire:
        yield wire


def here() -> Home:
    return Home.of(asyncio.get_running_loop())


async def test_awake_until_the_answer_comes(wire: Wire) -> None:
    for _ in range(3):
        reply = wire.ask()
        assert here()._turning
        await asyncio.sleep(0.01)  # all else in the loop runs meanwhile
        assert here()._turning
        await wire.say(PONG)
        assert await reply == b"PONG"
        await until(lambda: not here()._turning)


async def test_awake_for_whoever_is_woken_too(wire: Wire) -> None:
    """Its next command leaves as the read callback ends."""

    async def ask_twice() -> None:
        await wire.ask()
        await wire.ask()

    task = asyncio.create_task(ask_twice())
    await wire.heard(1)
    await wire.say(PONG)
    assert here()._turning
    assert wire.connection.in_flight == 1
    await wire.say(PONG)
    await task
    await until(lambda: not here()._turning)


async def test_awake_for_the_few_of_one_turn(wire: Wire) -> None:
    wire.connection._asleep = 1  # the first is alone in flight
    few = [wire.ask() for _ in range(protocol.FEW)]
    assert not here()._turning
    await wire.heard(len(few))
    assert here()._turning
    await wire.say(PONG * len(few))
    assert await asyncio.gather(*few) == [b"PONG"] * len(few)
    await until(lambda: not here()._turning)


async def test_each_connection_is_judged_by_its_own_answers(wire: Wire) -> None:
    """One turning serves all, until the last who wanted it has been answered."""
    async with Wire() as other:
        early, late = wire.ask(), other.ask()
        assert wire.connection._home is other.connection._home
        await wire.say(PONG)
        assert here()._turning
        assert (wire.connection._asleep, other.connection._asleep) == (0, ASLEEP)
        await other.say(PONG)
        assert other.connection._asleep == 0
        assert [await early, await late] == [b"PONG"] * 2
        await until(lambda: not here()._turning)


async def test_in_vain_it_sleeps_for_a_while(wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes too late was not worth it, nor are likely those after it."""
    monkeypatch.setattr(home, "AWAKE", 1e-6)
    awake = 0
    for number in range(2 * (ASLEEP + 1)):
        reply = wire.ask()
        if here()._turning:
            awake += 1
            assert number in (0, ASLEEP + 1)
            await until(lambda: not here()._turning)
        await wire.say(PONG)
        assert await reply == b"PONG"
    assert awake == 2


async def test_many_or_a_batch_are_not_worth_it(wire: Wire) -> None:
    many = [wire.ask_many(3)]
    assert not here()._turning
    await wire.say(PONG * 3)
    await many[0]
    wire.connection._flush_at = protocol.FLUSH_AT_MOST  # as if all were of one turn
    crowd = [wire.ask() for _ in range(protocol.FEW + 1)]
    wire.connection._flush_turn()
    assert not here()._turning
    await wire.say(PONG * len(crowd))
    await asyncio.gather(*crowd)


async def test_it_ends_with_the_connection(wire: Wire) -> None:
    reply = wire.ask()
    assert here()._turning
    wire.connection.close()
    await asyncio.wait([reply])
    assert reply.exception() is not None
    await until(lambda: not here()._turning)
