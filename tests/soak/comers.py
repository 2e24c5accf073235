"""Those who come and go: clients and pools of a moment, and whoever turns a pool's knobs."""

from __future__ import annotations

from typing import Any

from redis.exceptions import RedisError

from redisutils import Redis

from .world import BUDGET, CHECKOUT, CONNECT, ROOM, User

__all__ = ["COMERS"]


class Visitor(User):
    """A client of its own, made, used and closed; by some never closed in peace."""

    pause = 0.1

    async def turn(self) -> None:
        visit = self._visit(alone=self.dice.random() < 0.3)
        if self.dice.random() < 0.3:
            await self.impatiently(visit, self.dice.choice((0, 0.001, 0.005, 0.02)))
        else:
            await visit

    async def _visit(self, *, alone: bool) -> None:
        world = self.world
        client: Any = Redis(
            host=world.proxy.host,
            port=world.proxy.port,
            password=world.server.password,
            socket_timeout=BUDGET,
            socket_connect_timeout=CONNECT,
            max_connections=3,
            single_connection_client=alone,
            client_name="soak",
        )
        try:
            token = f"{self.id}/{self.dice.random()}"
            self.expect(await self.call(client.echo(token), what="a visitor's"), token.encode())
            pipe = client.pipeline(transaction=False)
            pipe.echo(token).echo(token)
            echoes = await self.call(pipe.execute(), what="a visitor's pipeline")
            self.expect(echoes, [token.encode()] * 2)
        finally:
            await self.call(client.aclose(), 0.1, "aclose()")


class Lodger(User):
    """A pool of its own: opened, used by a few, and closed with what is in flight."""

    pause = 0.3

    async def turn(self) -> None:
        pool = await self.world.make_pool(pool_max_size=3, pool_min_idle=self.dice.randrange(3))
        drain = self.dice.choice((0.0, 0.1))
        try:
            await self.call(pool.client.ping(), what="a lodger's PING")
            late = self.dice.random() < 0.5
            stay: Any = self._stay(pool)
            await self.impatiently(stay, 0.0 if late else 2 * CHECKOUT)
        finally:
            await self.call(pool.close(drain=drain), drain + 0.1, "close()")
        self.expect(pool.closed, True, "closed")

    async def _stay(self, pool: Any) -> None:
        async with pool.get() as conn:
            token = f"{self.id}/{self.dice.random()}"
            self.expect(await self.call(conn.echo(token)), token.encode())


class Landlord(User):
    """Turns the knobs of the big pool."""

    pause = 0.5

    async def turn(self) -> None:
        pool = self.world.pool
        match self.dice.randrange(4):
            case 0:
                pool.resize(self.dice.randrange(ROOM // 2, ROOM + 1))
            case 1:
                result = pool.retain(lambda conn, usage: self.dice.random() < 0.5)
                if result.retained < 0 or result.removed < 0:
                    self.world.complain(f"retain() says {result}")
            case 2:
                await self.call(pool.health(timeout=0.5), 0.5, "health()")
            case _:
                pool.metrics()

    async def audit(self) -> None:
        self.world.pool.resize(ROOM)


class Stranger(User):
    """Comes with a wrong password, and is told so."""

    pause = 0.5

    async def turn(self) -> None:
        world = self.world
        client: Any = Redis(
            host=world.proxy.host,
            port=world.proxy.port,
            password="wrong",
            socket_timeout=BUDGET,
            socket_connect_timeout=CONNECT,
        )
        try:
            await self.call(client.ping(), what="a stranger's PING")
        except RedisError:
            return
        finally:
            await self.call(client.aclose(), 0.1, "aclose()")
        world.complain(f"{self.id} was let in")


COMERS: dict[type[User], int] = {Visitor: 3, Lodger: 2, Landlord: 1, Stranger: 1}
"""How many there are of each."""
