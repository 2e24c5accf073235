"""A caller may go away at any await: he leaves his place in the queue, and nothing else."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any

import pytest
import redis
import uvloop

from redisutils import Redis, create_redis_pool
from redisutils.client.redis_pool import RedisPool
from redisutils.errors import ConnectionLost
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .peers import DEADLINE, Wire, turns, until


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    async with create_redis_pool(url=clean_server.url, pool_max_size=3) as pool:
        yield pool


def proxied(proxy: FaultProxy, server: EmbeddedServer, **more: Any) -> RedisPool:
    return create_redis_pool(host=proxy.host, port=proxy.port, password=server.password, **more)


class CancelledAt:
    """Awaits ``inner`` and has its task cancelled at the ``at``-th time that it waits."""

    def __init__(self, inner: Coroutine[Any, Any, Any], at: int) -> None:
        self.inner = inner
        self.at = at
        self.waited = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        task = asyncio.current_task()
        assert task is not None
        awaited = self.inner.send(None)
        while True:
            self.waited += 1
            if self.waited == self.at:
                task.cancel()  # takes effect on what the task is about to wait for
            try:
                yield awaited
            except BaseException as error:  # noqa: BLE001  # all that is thrown in goes on
                step: Any = self.inner.throw
                argument: Any = error
            else:
                step = self.inner.send
                argument = None
            try:
                awaited = step(argument)
            except StopIteration as end:
                return end.value


async def cancel_at_every_await(
    deed: Callable[[], Coroutine[Any, Any, Any]], check: Callable[[], Awaitable[None]]
) -> int:
    """Do ``deed`` again and again, cancelled at its first await, its second and so on until it
    comes to its end, and ``check`` after each. Returns at how many."""
    for at in itertools.count(1):

        async def attempt(at: int = at) -> None:
            await CancelledAt(deed(), at)

        task = asyncio.ensure_future(attempt())
        await asyncio.wait([task], timeout=DEADLINE)
        assert task.done(), f"cancelled at await {at}, and did not end"
        await check()
        if not task.cancelled():
            task.result()
            return at - 1
    raise AssertionError


# -- at every await, of everything that awaits ---------------------------------------------------


async def get(pool: RedisPool) -> None:
    await pool.client.get("key")


async def pipeline(pool: RedisPool) -> None:
    pipe: Any = pool.client.pipeline(transaction=False)
    pipe.get("key")
    pipe.get("key")
    assert await pipe.execute() == [b"value"] * 2


async def transaction(pool: RedisPool) -> None:
    pipe: Any = pool.client.pipeline()
    pipe.get("key")
    assert await pipe.execute() == [b"value"]


async def watch(pool: RedisPool) -> None:
    pipe: Any
    async with pool.client.pipeline() as pipe:
        await pipe.watch("key")
        assert await pipe.get("key") == b"value"
        pipe.multi()
        pipe.set("key", "value")
        await pipe.execute()


async def checkout(pool: RedisPool) -> None:
    async with pool.get() as conn:
        assert await conn.execute("GET", "key") == b"value"


async def blocking(pool: RedisPool) -> None:
    await pool.client.rpush("queue", "item")
    await pool.client.blpop(["queue"], 5)


async def publish_and_receive(pool: RedisPool) -> None:
    async with pool.client.pubsub() as pubsub:
        await pubsub.subscribe("channel")
        await pubsub.get_message(timeout=5)
        await pool.client.publish("channel", "hello")
        assert (await pubsub.get_message(timeout=5))["data"] == b"hello"


async def lock(pool: RedisPool) -> None:
    held = pool.client.lock("lock", timeout=0.2, blocking_timeout=2, sleep=0.01)
    async with held:
        await pool.client.get("key")


async def script(pool: RedisPool) -> None:
    run = pool.client.register_script("return redis.call('GET', KEYS[1])")
    assert await run(keys=["key"]) == b"value"


DEEDS = [
    get,
    pipeline,
    transaction,
    watch,
    checkout,
    blocking,
    publish_and_receive,
    lock,
    script,
]


@pytest.mark.parametrize("deed", DEEDS)
async def test_cancelled_at_every_await(
    pool: RedisPool, deed: Callable[[RedisPool], Coroutine[Any, Any, Any]]
) -> None:
    await pool.client.set("key", "value")
    lane = standalone(pool).lane()
    connection = lane.connection
    number = 0

    async def check() -> None:
        nonlocal number
        number += 1
        assert await pool.client.echo(f"mine {number}") == f"mine {number}".encode()
        assert lane.connection is connection  # the healthy connection was not closed
        assert connection is not None
        await until(lambda: not connection.in_flight)
        assert standalone(pool).pool.in_use == 1  # the lane; no lease leaks
        assert pool.status().waiting == 0

    assert await cancel_at_every_await(lambda: deed(pool), check) >= 1


@pytest.mark.parametrize("deed", [get, pipeline, checkout, blocking])
async def test_cancelled_at_every_await_while_connecting(
    clean_server: EmbeddedServer,
    admin: redis.Redis,
    deed: Callable[[RedisPool], Coroutine[Any, Any, Any]],
) -> None:
    """Each time in a new pool, whose first connection is still to be made."""
    before = len(admin.client_list())
    admin.set("key", "value")
    pool = await create_redis_pool(url=clean_server.url, pool_max_size=2)

    async def check() -> None:
        nonlocal pool
        assert await pool.client.echo("mine") == b"mine"
        await until(lambda: standalone(pool).pool.in_use == 1)
        await pool.close()
        pool = await create_redis_pool(url=clean_server.url, pool_max_size=2)

    assert await cancel_at_every_await(lambda: deed(pool), check) >= 1
    await pool.close()
    await until(lambda: len(admin.client_list()) == before)


@pytest.mark.parametrize("size", [1, 3])
async def test_cancelled_checkouts_give_back_their_permits(
    clean_server: EmbeddedServer, size: int
) -> None:
    """Waiting, creating and recycling ones, from within and from without."""
    async with create_redis_pool(url=clean_server.url, pool_max_size=size) as pool:
        for wave in range(20):
            tasks = [asyncio.ensure_future(checkout(pool)) for _ in range(10)]
            await turns(wave)
            for task in tasks[:: 1 + wave % 2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert standalone(pool).pool.in_use == 0
            status = pool.status()
            assert status.size <= size
            assert status.available == status.size
            assert status.waiting == 0
        held = [await pool.get() for _ in range(size)]  # all permits are there
        for connection in held:
            connection.release()


async def test_a_cancelled_holder_gives_back_a_clean_connection(pool: RedisPool) -> None:
    """One who is cancelled with a reply owed leaves a connection that nobody else may have."""
    for _ in range(10):

        async def holder() -> None:
            async with pool.get() as conn:
                await conn.execute("ECHO", "first")
                await conn.execute("ECHO", "owed")

        task = asyncio.ensure_future(holder())
        await until(lambda: standalone(pool).pool.in_use)
        await turns(1)
        task.cancel()
        await asyncio.wait([task])
        async with pool.get() as conn:
            assert await conn.execute("ECHO", "mine") == b"mine"
        assert standalone(pool).pool.in_use == 0


# -- the place in the queue ----------------------------------------------------------------------


async def test_a_cancelled_caller_leaves_its_place(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    """The command is executed, its reply is read and dropped, the connection stays."""
    async with proxied(proxy, server) as pool:
        await pool.client.ping()
        lane = standalone(pool).lane()
        connection = lane.connection
        proxy.stall()
        gone = [asyncio.ensure_future(pool.client.incr("gone")) for _ in range(100)]
        stays = [asyncio.ensure_future(pool.client.incr("stays")) for _ in range(100)]
        await until(lambda: lane.depth == 200)
        for task in gone:
            task.cancel()
        await asyncio.wait(gone)
        assert lane.depth == 200  # they are owed
        proxy.restore()
        assert sorted(await asyncio.gather(*stays)) == list(range(1, 101))
        assert await pool.client.get("gone") == b"100"
        assert lane.connection is connection
        assert lane.depth == 0


async def test_a_timeout_around_a_command(proxy: FaultProxy, server: EmbeddedServer) -> None:
    async with proxied(proxy, server) as pool:
        client = pool.client
        await client.ping()
        connection = standalone(pool).lane().connection
        proxy.stall()
        for _ in range(3):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await client.echo("late")
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(client.echo("late"), 0.01)
        proxy.restore()
        async with asyncio.timeout(DEADLINE):
            assert await client.echo("mine") == b"mine"
        assert standalone(pool).lane().connection is connection


async def test_a_task_group_that_fails(pool: RedisPool) -> None:
    """The siblings are cancelled in the very turn in which one of them fails."""

    async def group_that_fails() -> None:
        async with asyncio.TaskGroup() as group:
            for number in range(40):
                group.create_task(pool.client.execute_command("ECHO", f"{number}"))
                if number == 20:
                    group.create_task(pool.client.execute_command("NOSUCHCOMMAND"))

    for _ in range(20):
        with pytest.raises(ExceptionGroup) as e:
            await group_that_fails()
        assert e.group_contains(redis.ResponseError)
        assert await pool.client.echo("mine") == b"mine"
    assert pool.status().size == 1


# -- blocking commands ---------------------------------------------------------------------------


async def test_a_cancelled_blpop_takes_nothing(pool: RedisPool, admin: redis.Redis) -> None:
    """Its connection is closed: what is pushed later is still there for others."""

    def blocked() -> int:
        return int(admin.info("clients")["blocked_clients"])

    for number in range(10):
        task = asyncio.ensure_future(pool.client.blpop(["queue"], 0))
        await until(lambda: blocked() == 1)
        assert standalone(pool).pool.in_use == 2 if number else True
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await until(lambda: blocked() == 0)
        assert await pool.client.rpush("queue", f"item {number}") == 1
        assert await pool.client.lpop("queue") == f"item {number}".encode()
        assert standalone(pool).pool.in_use == 1


async def test_a_blpop_cut_by_a_timeout_takes_nothing(pool: RedisPool, admin: redis.Redis) -> None:
    for number in range(5):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await pool.client.blpop(["queue"], 0)
        await until(lambda: admin.info("clients")["blocked_clients"] == 0)
        await pool.client.rpush("queue", number)
        popped: Any = await pool.client.blpop(["queue"], 1)
        assert popped[1] == b"%d" % number


async def test_a_push_right_after_a_cancelled_blpop_is_not_lost(pool: RedisPool) -> None:
    """Without waiting for the server to notice: the connection is closed before the push leaves."""
    for number in range(50):
        task = asyncio.ensure_future(pool.client.blpop(["queue"], 0))
        await turns(number % 20)
        task.cancel()
        await asyncio.wait([task])
        await pool.client.rpush("queue", number)
        assert await pool.client.lpop("queue") == b"%d" % number


# -- what happens inside the read callback -------------------------------------------------------


async def test_a_caller_is_woken_within_the_read_callback() -> None:
    """What all of the following is about: he runs beneath ``data_received``, not a turn later."""
    async with Wire() as wire:

        async def caller() -> list[str]:
            await wire.ask()
            frame = inspect.currentframe()
            names = []
            while frame is not None:
                names.append(frame.f_code.co_name)
                frame = frame.f_back
            return names

        tasks = [asyncio.ensure_future(caller()) for _ in range(3)]
        await until(lambda: wire.connection.in_flight == 3)
        await wire.say(b"+a\r\n+b\r\n+c\r\n")
        for task in tasks:
            names = await task
            assert names[0] == "caller"
            assert "data_received" in names


async def test_cancelling_a_neighbour_from_the_read_callback() -> None:
    """A is woken by his reply and cancels B, whose reply is the next in the same read."""
    async with Wire() as wire:
        seen: list[str] = []

        async def a() -> Any:
            answer = await wire.ask()
            assert asyncio.current_task() is tasks[0]
            seen.append("a")
            tasks[1].cancel()
            return answer

        async def b() -> Any:
            try:
                return await wire.ask()
            finally:
                seen.append("b")

        tasks = [asyncio.ensure_future(work) for work in (a(), b(), a_caller(wire))]
        await until(lambda: wire.connection.in_flight == 3)
        await wire.say(b"+a\r\n+b\r\n+c\r\n")
        assert await tasks[0] == b"a"
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        assert await tasks[2] == b"c"
        assert seen == ["a", "b"]


async def a_caller(wire: Wire) -> Any:
    return await wire.ask()


async def test_cancelling_a_neighbour_whose_reply_is_in() -> None:
    """The other order: B has his reply and is done; cancelling him is too late."""
    async with Wire() as wire:

        async def canceller() -> Any:
            answer = await wire.ask()
            assert first.done()
            assert not first.cancel()
            return answer

        first = asyncio.ensure_future(a_caller(wire))
        second = asyncio.ensure_future(canceller())
        await until(lambda: wire.connection.in_flight == 2)
        await wire.say(b"+a\r\n+b\r\n")
        assert list(await asyncio.gather(first, second)) == [b"a", b"b"]


async def test_cancelling_oneself_from_the_read_callback() -> None:
    async with Wire() as wire:

        async def suicidal() -> Any:
            await wire.ask()
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            return await wire.ask()

        task = asyncio.ensure_future(suicidal())
        await until(lambda: wire.connection.in_flight)
        await wire.say(b"+a\r\n")
        with pytest.raises(asyncio.CancelledError):
            await task
        reply = wire.ask()
        await wire.say(b"+owed\r\n+mine\r\n")
        assert await reply == b"mine"


async def test_everyone_cancels_everyone(pool: RedisPool) -> None:
    """In one read a hundred tasks are woken, and each cancels the one before and the one behind."""
    client = pool.client
    await client.ping()
    tasks: list[asyncio.Future[bytes]] = []
    for step in (1, 2, 7):

        async def one(number: int, step: int = step) -> bytes:
            answer = await client.echo(str(number))
            assert answer == str(number).encode()
            for other in (number - step, number + step):
                if 0 <= other < len(tasks):
                    tasks[other].cancel()
            assert await client.echo(f"again {number}") == f"again {number}".encode()
            return bytes(answer)

        tasks[:] = [asyncio.ensure_future(one(number)) for number in range(100)]
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        for number, end in enumerate(ends):
            assert isinstance(end, asyncio.CancelledError) or end == str(number).encode(), end
        assert await client.echo("mine") == b"mine"
    assert pool.status().size == 1


async def test_closing_the_connection_from_the_read_callback() -> None:
    async with Wire() as wire:

        async def closer() -> None:
            await wire.ask()
            wire.connection.close()
            with pytest.raises(ConnectionLost, match="is closed"):
                await wire.ask()

        first = asyncio.ensure_future(closer())
        others = [asyncio.ensure_future(a_caller(wire)) for _ in range(3)]
        await until(lambda: wire.connection.in_flight == 4)
        await wire.say(b"+a\r\n+b\r\n+c\r\n")
        await first
        for other in others:
            with pytest.raises(ConnectionLost):
                await other


async def test_closing_the_pool_from_the_read_callback(clean_server: EmbeddedServer) -> None:
    pool = await create_redis_pool(url=clean_server.url)
    await pool.client.ping()

    async def closer() -> None:
        await pool.client.ping()
        await pool.close()

    others = [asyncio.ensure_future(pool.client.ping()) for _ in range(5)]
    closing = asyncio.ensure_future(closer())
    others += [asyncio.ensure_future(pool.client.ping()) for _ in range(5)]
    ends = await asyncio.gather(*others, closing, return_exceptions=True)
    assert ends[-1] is None
    assert all(end is True or isinstance(end, redis.ConnectionError) for end in ends[:-1])


async def test_a_woken_task_that_raises_disturbs_nobody() -> None:
    async with Wire() as wire:

        async def raises() -> None:
            await wire.ask()
            raise ZeroDivisionError

        tasks = [asyncio.ensure_future(work) for work in (a_caller(wire), raises(), a_caller(wire))]
        await until(lambda: wire.connection.in_flight == 3)
        await wire.say(b"+a\r\n+b\r\n+c\r\n")
        ends = await asyncio.gather(*tasks, return_exceptions=True)
        assert ends[0] == b"a"
        assert isinstance(ends[1], ZeroDivisionError)
        assert ends[2] == b"c"
        assert not wire.connection.closed


async def test_several_wait_for_one_reply() -> None:
    """Shielded, gathered, waited for and called back: each as with a plain future."""
    async with Wire() as wire:
        reply = wire.ask()
        called: list[Any] = []
        reply.add_done_callback(called.append)
        waiting: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(asyncio.wait({reply})),
            asyncio.ensure_future(asyncio.wait_for(asyncio.shield(reply), DEADLINE)),
            asyncio.ensure_future(awaits(reply)),
            asyncio.ensure_future(awaits(reply)),
            asyncio.gather(reply, reply),
        ]
        await turns(3)
        await wire.say(b"+mine\r\n")
        (done, _), *rest = await asyncio.gather(*waiting)
        assert done == {reply}
        assert rest == [b"mine", b"mine", b"mine", [b"mine", b"mine"]]
        assert called == [reply]


async def awaits(reply: Awaitable[Any]) -> Any:
    return await reply


@pytest.mark.parametrize("failure", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("make_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_an_interrupt_in_a_woken_task_reaches_the_loop(
    server: EmbeddedServer,
    make_loop: Callable[[], asyncio.AbstractEventLoop],
    failure: type[BaseException],
) -> None:
    """And does not kill the connection, nor those who are woken by the same read."""
    loop = make_loop()
    try:

        async def before() -> tuple[RedisPool, Any]:
            pool = await create_redis_pool(url=server.url)
            await pool.client.ping()
            return pool, standalone(pool).lane().connection

        pool, connection = loop.run_until_complete(before())
        done: list[Any] = []
        tasks: list[asyncio.Future[Any]] = []

        async def well_behaved() -> None:
            done.append(await pool.client.echo("mine"))

        async def interrupted() -> None:
            await pool.client.ping()
            raise failure

        async def main() -> None:
            deeds = [well_behaved(), interrupted(), well_behaved()]
            tasks.extend(asyncio.ensure_future(deed) for deed in deeds)
            await asyncio.wait(tasks, timeout=DEADLINE)

        with pytest.raises(failure):
            loop.run_until_complete(main())

        async def after() -> None:
            async with asyncio.timeout(DEADLINE):
                assert await pool.client.echo("later") == b"later"
                await until(lambda: len(done) == 2)
            assert done == [b"mine"] * 2
            assert isinstance(tasks[1].exception(), failure)
            assert standalone(pool).lane().connection is connection
            await pool.close()

        loop.run_until_complete(after())
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        loop.close()


variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nobody's")


async def test_each_task_keeps_its_context(pool: RedisPool) -> None:
    """A task that is woken within another's read runs in its own context and leaks none of it."""
    client = pool.client

    async def one(number: int) -> None:
        variable.set(f"start {number}")
        for round_ in range(5):
            before = variable.get()
            await client.echo("x")
            assert variable.get() == before
            variable.set(f"{number}/{round_}")
            task = asyncio.current_task()
            assert task is not None
            assert task.get_name() == f"task {number}"

    await asyncio.gather(*(asyncio.create_task(one(i), name=f"task {i}") for i in range(50)))
    assert variable.get() == "nobody's"

    async def child() -> str:
        return variable.get()

    async def starts_children(number: int) -> None:
        variable.set(str(number))
        await client.echo("x")
        assert await asyncio.create_task(child()) == str(number)
        told: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_soon(lambda: told.set_result(variable.get()))
        assert await told == str(number)

    await asyncio.gather(*(starts_children(number) for number in range(20)))


async def test_callbacks_run_in_the_context_they_were_given() -> None:
    async with Wire() as wire:
        seen: list[str] = []
        for name in ("one", "two"):
            context = contextvars.copy_context()
            context.run(variable.set, name)
            reply = wire.ask()
            reply.add_done_callback(lambda _: seen.append(variable.get()), context=context)
        await wire.say(b"+a\r\n+b\r\n")
        await until(lambda: len(seen) == 2)
        assert seen == ["one", "two"]


async def test_the_woken_task_is_the_current_one_and_then_none_is() -> None:
    """``current_task`` is right while a task runs in the read callback, and clean after it."""
    async with Wire() as wire:
        loop = asyncio.get_running_loop()
        outside: list[Any] = []

        async def one() -> None:
            await wire.ask()
            assert asyncio.current_task() is task
            loop.call_soon(lambda: outside.append(asyncio.current_task()))

        task = asyncio.ensure_future(one())
        await until(lambda: wire.connection.in_flight)
        await wire.say(b"+a\r\n")
        await task
        await until(lambda: outside)
        assert outside == [None]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks came with Python 3.12")
async def test_eager_tasks(clean_server: EmbeddedServer) -> None:
    """Tasks that start running where they are made, also within a read callback."""
    loop = asyncio.get_running_loop()

    def eager(loop: Any, deed: Any, *, eager_start: bool = True, **more: Any) -> Any:
        # uvloop hands on eager_start, which asyncio's factory takes from Python 3.14 on.
        return asyncio.eager_task_factory(loop, deed, **more)  # type: ignore[attr-defined]  # 3.12 on

    loop.set_task_factory(eager)
    try:
        async with Redis.from_url(clean_server.url) as client:

            async def one(number: int, depth: int) -> None:
                mine = f"{number}/{depth}".encode()
                assert await client.echo(mine) == mine
                if depth:
                    children = [asyncio.create_task(one(number, depth - 1)) for _ in range(2)]
                    assert await client.echo(mine) == mine
                    await asyncio.gather(*children)

            await asyncio.gather(*(one(number, 3) for number in range(20)))
    finally:
        loop.set_task_factory(None)
