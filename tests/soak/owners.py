"""Users of connections of their own: WATCH, blocking reads, pub/sub, checkouts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Final

from redis.exceptions import RedisError

from redisutils import PooledConnection

from .ledger import Ledger, surely_not_done
from .world import BUDGET, CHECKOUT, User, World

__all__ = ["ACCOUNTS", "OWNERS", "Subscriber"]

ACCOUNTS: Final = {f"account:{number}": 1000 for number in range(4)}
"""Between which money is moved, and how much there is at first."""


class Teller(User):
    """Moves money from one account to another, under WATCH."""

    pause = 0.05

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._ledger = Ledger(self.id)

    async def turn(self) -> None:
        async with AsyncExitStack() as stack:
            client: Any = self.world.pool.client
            if self.dice.random() < 0.5:
                client = await self.call(self.world.pool.get(), CHECKOUT, "get()")
                stack.callback(client.release)
            pipe = await stack.enter_async_context(client.pipeline())
            work = self._transfer(pipe)
            if self.dice.random() < 0.1:
                await self.impatiently(work, self.dice.uniform(0, 0.01))
            else:
                await work

    async def _transfer(self, pipe: Any) -> None:
        source, target = self.dice.sample(list(ACCOUNTS), 2)
        # WATCH waits for a connection, too, of which some may have to be found out as dead.
        await self.call(pipe.watch(source, target), BUDGET + BUDGET, "WATCH")
        amount = min(self.dice.randrange(50), int(await self.call(pipe.get(source), what="GET")))
        name = self._ledger.name()
        pipe.multi()
        pipe.decrby(source, amount)
        pipe.incrby(target, amount)
        pipe.rpush(self.id, name)
        await self._ledger.write([name], self.call(pipe.execute(), what="EXEC"))

    async def audit(self) -> None:
        self.world.complain_all(self._ledger.audit(await self.hold(self.id)))


class Auditor(User):
    """Reads all accounts at once: no money may come or go."""

    pause = 0.1

    async def turn(self) -> None:
        mget: Any = self.world.pool.client.mget(list(ACCOUNTS))
        self._sum(await self.call(mget, what="MGET"))

    async def audit(self) -> None:
        self._sum(await self.world.admin.mget(list(ACCOUNTS)))

    def _sum(self, values: list[Any]) -> None:
        self.expect(sum(map(int, values)), sum(ACCOUNTS.values()), "the money")


class Worker(User):
    """Feeds a queue and takes from it with BLPOP, two at a time."""

    pause = 0.05

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._ledger = Ledger(self.id)
        self._taken: list[str] = []
        self._lost = 0

    async def turn(self) -> None:
        await asyncio.gather(self._take(), self._feed(), self._take(), return_exceptions=True)

    async def _feed(self) -> None:
        push: Any = self.world.pool.client.rpush
        for _ in range(self.dice.randrange(4)):
            name = self._ledger.name()
            try:
                await self._ledger.write([name], self.call(push(self.id, name), what="RPUSH"))
            except RedisError:
                continue

    async def _take(self) -> None:
        pop = self._pop()
        if self.dice.random() < 0.2:
            await self.impatiently(pop, self.dice.uniform(0, 0.1))
        else:
            await pop

    async def _pop(self) -> None:
        seconds = 0.2
        blpop: Any = self.world.pool.client.blpop([self.id], timeout=seconds)
        try:
            # A server looks for those who have waited long enough every 0.1 s only.
            got = await self.call(blpop, BUDGET + seconds, "BLPOP", "waiting")
        except asyncio.CancelledError:
            self._lost += 1
            raise
        except RedisError as error:
            self._lost += not surely_not_done(error)
            raise
        if got is not None:
            self.expect(got[0], self.id.encode(), "the queue of an element")
            self._taken.append(got[1].decode())

    async def audit(self) -> None:
        held = await self.hold(self.id)
        self.world.complain_all(self._ledger.audit(held, consumed=self._taken, lost=self._lost))
        self._taken.clear()
        self._lost = 0


class Borrower(User):
    """Checks connections out, and is cancelled anywhere; some keep theirs, or leave it a mess."""

    pause = 0.1

    async def turn(self) -> None:
        if self.dice.random() < 0.3:
            await self.impatiently(self._borrow(), self.dice.choice((0, 0.001, 0.01, 0.05)))
        else:
            await self._borrow()

    async def _borrow(self) -> None:
        dice = self.dice.random()
        if dice < 0.2:
            conn = await self.call(self.world.pool.get(timeout=0), CHECKOUT, "get(0)")
        else:
            conn = await self.call(self.world.pool.get(), CHECKOUT, "get()")
        try:
            await self._use(conn, dice)
        finally:
            await conn.aclose()
        self.expect(conn.released, True, "released")

    async def _use(self, conn: PooledConnection, dice: float) -> None:
        token = f"{self.id}/{self.dice.random()}"
        echo: Any = conn.echo(token)
        self.expect(await self.call(echo, what="ECHO on a lease"), token.encode())
        if dice > 0.9:
            kept: Any = conn.take()
            self.expect(kept, conn, "what was taken")
            self.expect(await self.call(conn.execute("ECHO", token)), token.encode())
        elif dice > 0.8:
            await self.call(conn.execute("SELECT", 1))  # never to be reused
        elif dice > 0.7:
            raise RedisError("a caller's own misfortune")


class Speaker(User):
    """Publishes, each message unlike any other."""

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._said = 0

    async def turn(self) -> None:
        self._said += 1
        client: Any = self.world.pool.client
        await self.call(client.publish("news", f"{self.id}#{self._said}"), what="PUBLISH")


class Subscriber(User):
    """Listens to the news from beginning to end, whatever happens."""

    pause = 0.01

    def __init__(self, world: World, number: int) -> None:
        super().__init__(world, number)
        self._pubsub: Any = world.pool.client.pubsub()
        self._heard: set[str] = set()
        self.beacon = ""
        """The last message that was not a speaker's."""

    async def live(self) -> None:
        """As everybody does, but not held by the gate."""
        try:
            while True:
                try:
                    await self.turn()
                except RedisError:
                    await asyncio.sleep(self.dice.uniform(0, 0.1))
        finally:
            await self._pubsub.aclose()

    async def turn(self) -> None:
        if not self._pubsub.subscribed:
            await self.call(self._pubsub.subscribe("news"), 2 * BUDGET, "SUBSCRIBE")
        # It subscribes anew by itself when its connection was lost.
        message = await self.call(
            self._pubsub.get_message(ignore_subscribe_messages=True, timeout=0.2),
            0.2 + 2 * BUDGET,
            "get_message()",
            "waiting",
        )
        if message is not None:
            self._hear(message)

    def _hear(self, message: dict[str, Any]) -> None:
        self.expect(message["channel"], b"news", "the channel")
        text = message["data"].decode()
        if not text.startswith("speaker:"):
            self.beacon = text
            return
        if text in self._heard:
            self.world.complain(f"{self.id} heard {text} twice")
        self._heard.add(text)

    async def audit(self) -> None:
        self._heard.clear()


class Passer(User):
    """Subscribes for a moment, and leaves in the middle."""

    pause = 0.2

    async def turn(self) -> None:
        async with self.world.pool.client.pubsub() as pubsub:
            listening: Any = self._listen(pubsub)
            await self.impatiently(listening, self.dice.choice((0, 0.001, 0.01, 0.1)))

    async def _listen(self, pubsub: Any) -> None:
        await self.call(pubsub.subscribe("news", f"own:{self.id}"), 2 * BUDGET, "SUBSCRIBE")
        for _ in range(5):
            message = pubsub.get_message(timeout=0.05)
            await self.call(message, 0.05 + 2 * BUDGET, "get_message()", "waiting")


OWNERS: dict[type[User], int] = {
    Teller: 3,
    Auditor: 1,
    Worker: 2,
    Borrower: 4,
    Speaker: 2,
    Subscriber: 3,
    Passer: 1,
}
"""How many there are of each."""
