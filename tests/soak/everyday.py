"""Users of the shared client: any number of tasks on one connection."""

from __future__ import annotations

import asyncio
from typing import Any

from redis.exceptions import RedisError

from redisutils import Redis

from .ledger import Ledger, Tally, surely_not_done
from .world import BUDGET, User, World

__all__ = ["EVERYDAY"]


class Register(User):
    """SET and GET of one's own key, each value unlike any other."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self.pool = world.strict if number % 4 == 3 else world.pool
        self._written = 0
        self._acknowledged = 0
        # One that was repeated or whose fate is unknown may still be under way on a connection
        # that died, and land after its successors.
        self._afloat: set[int] = set()

    @property
    def client(self) -> Redis:
        return self.pool.client

    async def turn(self) -> None:
        self._written = number = self._written + 1
        size = self.dice.choice((1, 10, 100, 1000, 20_000))
        value = f"{self.id}={number}=" + "x" * self.dice.randrange(size)
        retries = self.pool.server.metrics.retries
        before = retries.total()
        try:
            await self.call(self.client.set(self.id, value), what="SET")
            if retries.total() != before:
                self._afloat.add(number)
            self._acknowledged = number
        except RedisError as error:
            if not surely_not_done(error):
                self._afloat.add(number)
        self._judge(await self.call(self.client.get(self.id), what="GET"))

    async def audit(self) -> None:
        value = await self.world.admin.get(self.id)
        self._judge(None if value is None else value.encode())
        if value is not None:
            self._acknowledged = int(value.split("=")[1])
        self._afloat.clear()

    def _judge(self, value: bytes | None) -> None:
        if value is None:
            if self._acknowledged:
                self.world.complain(f"{self.id} was set and is gone")
            return
        key, number, rest = value.decode().split("=")
        self.expect(key, self.id, "the owner of the value")
        self.expect(rest.strip("x"), "", "the value")
        if int(number) != self._acknowledged and int(number) not in self._afloat:
            self.world.complain(
                f"{self.id} is {number}, with {self._acknowledged} acknowledged last and "
                f"{sorted(self._afloat)} unknown"
            )


class Order(Register):
    """The same on a lane of its own."""

    @property
    def client(self) -> Redis:
        return self.world.pool.lane("orders")


class Crowd(User):
    """Many commands in one turn of the loop, some of which nobody waits for to the end."""

    pause = 0.05

    async def turn(self) -> None:
        client: Any = self.world.pool.client
        hasty = self.dice.random() < 0.3
        await asyncio.gather(
            *(self._one(client, number, hasty) for number in range(self.dice.randrange(1, 40))),
            return_exceptions=True,
        )

    async def _one(self, client: Any, number: int, hasty: bool) -> None:
        token = f"{self.id}/{number}/{self.dice.random()}"

        async def ask() -> None:
            answer = await self.call(client.echo(token), what="ECHO")
            self.expect(answer, token.encode())

        if hasty and self.dice.random() < 0.5:
            await self.impatiently(ask(), self.dice.uniform(0, 0.01))
        else:
            await ask()


class Counting(User):
    """INCR of one's own number."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._client = (world.strict if number % 2 else world.pool).client
        self._tally = Tally(self.id)

    async def turn(self) -> None:
        if self.dice.random() < 0.1:
            await self.impatiently(self._count(), self.dice.uniform(0, 0.005))
        else:
            await self._count()

    async def _count(self) -> None:
        incr: Any = self._client.incr(self.id)
        self.world.complain_all(await self._tally.count(self.call(incr, what="INCR")))

    async def audit(self) -> None:
        value = await self.world.admin.get(self.id)
        self.world.complain_all(self._tally.audit(int(value or 0)))


class Burst(User):
    """RPUSH of several names at once, whose order must be kept, and of which some are cancelled."""

    pause = 0.05

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._client: Any = (world.strict if number % 2 else world.pool).client
        self._ledger = Ledger(self.id)

    async def turn(self) -> None:
        await asyncio.gather(
            *(self._maybe() for _ in range(self.dice.randrange(1, 20))),
            return_exceptions=True,
        )

    async def _maybe(self) -> None:
        if self.dice.random() < 0.05:
            await self.impatiently(self._push(), self.dice.uniform(0, 0.005))
        else:
            await self._push()

    async def _push(self) -> None:
        name = self._ledger.name()  # in the turn of the loop in which it is issued
        push = self.call(self._client.rpush(self.id, name), what="RPUSH")
        await self._ledger.write([name], push)

    async def audit(self) -> None:
        self.world.complain_all(self._ledger.audit(await self.hold(self.id)))


class Piper(User):
    """Plain pipelines."""

    pause = 0.04

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._ledger = Ledger(self.id)

    async def turn(self) -> None:
        pipe: Any = self.world.pool.client.pipeline(transaction=False)
        names = [self._ledger.name() for _ in range(self.dice.randrange(1, 30))]
        for name in names:
            pipe.echo(name).rpush(self.id, name)
        results = await self._ledger.write(names, self.call(pipe.execute(), what="pipeline"))
        self.expect(results[::2], [name.encode() for name in names], "a pipeline's echo")
        lengths = results[1::2]
        if lengths != sorted(lengths):
            self.world.complain(f"{self.id}: a pipeline was shuffled: {lengths}")

    async def audit(self) -> None:
        self.world.complain_all(self._ledger.audit(await self.hold(self.id)))


class Transaction(User):
    """MULTI and EXEC without WATCH: all of it or nothing."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._ledger = Ledger(self.id)
        self._client = (world.strict if number % 2 else world.pool).client

    async def turn(self) -> None:
        name = self._ledger.name()
        pipe: Any = self._client.pipeline(transaction=True)
        pipe.rpush(self.id, name).echo(name).rpush(f"{self.id}:twin", name)
        write = self._ledger.write([name], self.call(pipe.execute(), what="MULTI"))
        first, echo, second = await write
        self.expect(echo, name.encode(), "a transaction's echo")
        self.expect(second, first, "the other list's length")

    async def audit(self) -> None:
        held, twin = await self.hold(self.id), await self.hold(f"{self.id}:twin")
        self.expect(twin, held, "the other list")
        self.world.complain_all(self._ledger.audit(held))


class Scripter(User):
    """A script that writes. A server that was killed has forgotten it."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._ledger = Ledger(self.id)
        self._script: Any = world.pool.client.register_script(
            "redis.call('RPUSH', KEYS[1], ARGV[1]) return ARGV[1]"
        )

    async def turn(self) -> None:
        name = self._ledger.name()
        # EVALSHA, SCRIPT LOAD and EVALSHA again: each has a budget of its own.
        call = self.call(self._script([self.id], [name]), 3 * BUDGET, "script")
        self.expect(await self._ledger.write([name], call), name.encode(), "a script's reply")

    async def audit(self) -> None:
        self.world.complain_all(self._ledger.audit(await self.hold(self.id)))


class Hasty(User):
    """Views with little time, down to none at all."""

    async def turn(self) -> None:
        budget = self.dice.choice((1e-6, 0.001, 0.01, 0.1, 0.5))
        view: Any = self.world.pool.client.with_timeout(budget)
        token = f"{self.id}/{self.dice.random()}"
        echo = self.call(view.echo(token), budget, "ECHO in haste", "hurried")
        self.expect(await echo, token.encode())


EVERYDAY: dict[type[User], int] = {
    Register: 12,
    Order: 4,
    Crowd: 4,
    Counting: 6,
    Burst: 4,
    Piper: 4,
    Transaction: 4,
    Scripter: 2,
    Hasty: 4,
}
"""How many there are of each."""
