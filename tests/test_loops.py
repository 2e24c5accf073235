"""Event loops and processes: a pool belongs to one of each, and says so in clear words."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest
import redis
import uvloop

from redisutils import Redis, create_redis_pool
from redisutils.client.redis_pool import RedisPool
from redisutils.connection.home import Home
from redisutils.connection.packing import pack
from redisutils.errors import Outcome, PoolClosed, WrongLoop
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .peers import DEADLINE, until

MakeLoop = Callable[[], asyncio.AbstractEventLoop]
Run = Callable[[Coroutine[Any, Any, Any]], Any]

both_loops = pytest.mark.parametrize(
    "make_loop", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)


@pytest.fixture
def new_run() -> Iterator[Callable[[MakeLoop], Run]]:
    """Gives functions that run coroutines, each in a loop of its own, closed at the end."""
    runners: list[asyncio.Runner] = []

    def new(make_loop: MakeLoop) -> Run:
        runner = asyncio.Runner(loop_factory=make_loop)
        runners.append(runner)
        return lambda deed: runner.run(bounded(deed))

    async def bounded(deed: Coroutine[Any, Any, Any]) -> Any:
        async with asyncio.timeout(DEADLINE):
            return await deed

    yield new
    for runner in runners:
        runner.close()


async def opened(url: str, **more: Any) -> RedisPool:
    pool = await create_redis_pool(url=url, **more)
    assert await pool.client.ping()
    return pool


async def echo(client: Redis) -> Any:
    return await client.echo("mine")


# What people do with a pool, all of which it has to refuse elsewhere.


async def get(pool: RedisPool) -> None:
    await pool.client.get("key")


async def execute(pool: RedisPool) -> None:
    await pool.client.execute_command("SET", "key", "value")


async def pipeline(pool: RedisPool) -> None:
    pipe: Any = pool.client.pipeline()
    await pipe.get("key").execute()


async def other_lane(pool: RedisPool) -> None:
    await pool.lane("orders").get("key")


async def new_client(pool: RedisPool) -> None:
    await pool.make_client(decode_responses=True).get("key")


async def checkout(pool: RedisPool) -> None:
    async with pool.get() as conn:
        await conn.execute("GET", "key")


async def blocking(pool: RedisPool) -> None:
    await pool.client.blpop(["queue"], 1)


async def pubsub(pool: RedisPool) -> None:
    async with pool.client.pubsub() as subscriber:
        await subscriber.subscribe("channel")


async def watch(pool: RedisPool) -> None:
    async with pool.client.pipeline() as pipe:
        await pipe.watch("key")


DEEDS = (
    get,
    execute,
    pipeline,
    other_lane,
    new_client,
    checkout,
    blocking,
    pubsub,
    watch,
)


async def all_are_refused(pool: RedisPool, words: str) -> None:
    for deed in DEEDS:
        with pytest.raises(WrongLoop, match=words) as e:
            await deed(pool)
        assert e.value.outcome is Outcome.NOT_SENT, deed


# -- another loop --------------------------------------------------------------------------------


@both_loops
def test_from_another_loop(
    clean_server: EmbeddedServer, make_loop: MakeLoop, new_run: Callable[[MakeLoop], Run]
) -> None:
    """While its own loop is not running, closed or not; the pool itself takes no harm."""
    here, there = new_run(make_loop), new_run(make_loop)
    pool = here(opened(clean_server.url))
    there(all_are_refused(pool, "another event loop.*each loop"))
    assert here(echo(pool.client)) == b"mine"
    assert standalone(pool).pool.in_use == 1
    here(pool.close())


@both_loops
def test_a_lane_without_a_connection_from_another_loop(
    clean_server: EmbeddedServer, make_loop: MakeLoop, new_run: Callable[[MakeLoop], Run]
) -> None:
    """Where a command would wait for a connection, nobody would ever wake it."""
    here, there = new_run(make_loop), new_run(make_loop)
    pool = here(opened(clean_server.url))

    async def lose() -> None:
        connection = standalone(pool).lane().connection
        assert connection is not None
        connection.close()
        await asyncio.sleep(0)

    here(lose())
    there(all_are_refused(pool, "another event loop.*each loop"))
    assert here(echo(pool.client)) == b"mine"
    here(pool.close())


@both_loops
def test_a_checkout_from_another_loop(
    clean_server: EmbeddedServer, make_loop: MakeLoop, new_run: Callable[[MakeLoop], Run]
) -> None:
    here, there = new_run(make_loop), new_run(make_loop)
    pool = here(opened(clean_server.url))

    async def take() -> Any:
        return await pool.get()

    conn = here(take())
    with pytest.raises(WrongLoop, match="another event loop") as e:
        there(conn.execute("GET", "key"))
    assert e.value.outcome is Outcome.NOT_SENT
    assert here(conn.execute("ECHO", "mine")) == b"mine"
    here(conn.aclose())
    here(pool.close())


@both_loops
def test_from_another_thread(
    clean_server: EmbeddedServer, make_loop: MakeLoop, new_run: Callable[[MakeLoop], Run]
) -> None:
    """While its own loop runs at full speed in this one."""
    here, there = new_run(make_loop), new_run(make_loop)
    pool = here(opened(clean_server.url))
    ended: list[BaseException | None] = []

    def elsewhere() -> None:
        try:
            for _ in range(20):
                there(all_are_refused(pool, "another event loop"))
        except BaseException as error:  # noqa: BLE001  # goes to the thread that asked
            ended.append(error)
        else:
            ended.append(None)

    thread = threading.Thread(target=elsewhere)

    async def busy() -> None:
        thread.start()

        async def one(number: int) -> None:
            while not ended:
                assert await pool.client.echo(str(number)) == str(number).encode()

        await asyncio.gather(*(one(number) for number in range(20)))

    here(busy())
    thread.join()
    assert ended == [None]
    assert standalone(pool).pool.in_use == 1
    here(pool.close())


@both_loops
def test_after_its_loop_is_closed(
    clean_server: EmbeddedServer, make_loop: MakeLoop, recwarn: pytest.WarningsRecorder
) -> None:
    """The second ``asyncio.run`` of a program that keeps its pool in a global."""
    with warnings.catch_warnings():
        # A pool that was never closed leaves its sockets to the garbage collector, which says so.
        warnings.simplefilter("ignore", ResourceWarning)
        with asyncio.Runner(loop_factory=make_loop) as runner:
            pool = runner.run(opened(clean_server.url))
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(all_are_refused(pool, "another event loop.*each loop"))
            # To close it there is nothing left to do, and nothing to complain of.
            runner.run(pool.close())
            with pytest.raises(PoolClosed):
                runner.run(get(pool))
        del pool
        gc.collect()


@both_loops
def test_a_client_in_one_loop_after_another(
    clean_server: EmbeddedServer, make_loop: MakeLoop, admin: redis.Redis
) -> None:
    """Closed in each, as redis-py's it opens anew in the next."""
    client = Redis.from_url(clean_server.url)
    before = len(admin.client_list())

    async def use(mine: str) -> None:
        assert await client.echo(mine) == mine.encode()
        await client.aclose()

    for number in range(3):
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(use(str(number)))
    deadline_poll(lambda: len(admin.client_list()) == before)


@both_loops
def test_a_client_left_open_in_one_loop(clean_server: EmbeddedServer, make_loop: MakeLoop) -> None:
    """Not closed: clear words in the next loop; ``aclose()`` there mends it."""
    client = Redis.from_url(clean_server.url)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        with asyncio.Runner(loop_factory=make_loop) as runner:
            assert runner.run(echo(client)) == b"mine"
        with asyncio.Runner(loop_factory=make_loop) as runner:
            with pytest.raises(WrongLoop, match="another event loop"):
                runner.run(echo(client))
            runner.run(client.aclose())
            assert runner.run(echo(client)) == b"mine"
            runner.run(client.aclose())
        gc.collect()


def deadline_poll(condition: Callable[[], bool]) -> None:
    with asyncio.Runner() as runner:
        runner.run(until(condition))


# -- no loop -------------------------------------------------------------------------------------


def test_without_a_loop(clean_server: EmbeddedServer) -> None:
    """Making things needs none; using them says what is missing."""
    client = Redis.from_url(clean_server.url)
    assert "Redis" in repr(client)
    deed = client.execute_command("PING")
    with pytest.raises(RuntimeError, match="no running event loop") as e:
        deed.send(None)
    assert not isinstance(e.value, StopIteration)
    pool = create_redis_pool(url=clean_server.url)
    assert "not open" in repr(pool)
    with pytest.raises(PoolClosed, match="is not open: await it, or enter it"):
        repr(pool.client)
    with asyncio.Runner() as runner:  # and nothing of it is broken by that
        assert runner.run(ping_and_close(client)) is True


async def ping_and_close(client: Redis) -> Any:
    async with client:
        return await client.ping()


# -- a forked child ------------------------------------------------------------------------------


def in_child(deed: Callable[[], str]) -> str:
    """What ``deed`` says in a forked child, or the error that it raised there."""
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # 3.12: that a process has threads
        child = os.fork()
    if child == 0:
        signal.alarm(int(DEADLINE))
        try:
            said = deed()
        except BaseException as error:  # noqa: BLE001  # told to the parent
            said = f"{type(error).__name__}: {error}"
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    return said


@both_loops
def test_in_a_forked_child(
    clean_server: EmbeddedServer, make_loop: MakeLoop, new_run: Callable[[MakeLoop], Run]
) -> None:
    """Refused in clear words, and not one byte goes to the parent's sockets."""
    here = new_run(make_loop)
    pool = here(opened(clean_server.url))
    connection = pool.server._lanes.shared["default"].connection

    def deed() -> str:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            runner.run(
                all_are_refused(pool, f"process {os.getppid()} and this is its child {os.getpid()}")
            )
            runner.run(pool.close())  # the parent's sockets stay open
            mine = runner.run(opened(clean_server.url))  # one of its own works
            runner.run(mine.close())
        gc.collect()
        return "well"

    for _ in range(2):
        assert in_child(deed) == "well"
        assert here(echo(pool.client)) == b"mine"
    assert pool.server._lanes.shared["default"].connection is connection
    here(pool.close())


@both_loops
def test_a_fork_within_a_coroutine(
    clean_server: EmbeddedServer, make_loop: MakeLoop, new_run: Callable[[MakeLoop], Run]
) -> None:
    """The child goes on in the midst of the parent's loop, with commands in flight."""
    here = new_run(make_loop)

    async def main() -> None:
        pool = await opened(clean_server.url)
        conn = await pool.get()
        flying = [asyncio.ensure_future(pool.client.echo(str(i))) for i in range(20)]
        await asyncio.sleep(0)
        said = []
        for use in (get(pool), execute(pool), pipeline(pool), conn.execute("ECHO", "child")):

            def deed(use: Coroutine[Any, Any, Any] = use) -> str:
                try:
                    use.send(None)
                except RuntimeError as error:
                    return str(error)
                return "it was sent"

            said.append(in_child(deed))
            use.close()
        assert await asyncio.gather(*flying) == [str(i).encode() for i in range(20)]
        assert await conn.execute("ECHO", "mine") == b"mine"
        assert await pool.client.echo("mine") == b"mine"
        conn.release()
        await pool.close()
        child = f"in process {os.getpid()} and this is its child"
        for words in said:  # a connection of one's own leaves it to asyncio
            assert child in words or words == "no running event loop"

    here(main())


@both_loops
def test_a_child_that_goes_on_with_its_parents_loop(
    clean_server: EmbeddedServer, make_loop: MakeLoop, new_run: Callable[[MakeLoop], Run]
) -> None:
    """What it reads is the parent's: it takes nothing of it, nor is it taken for the loop."""
    here = new_run(make_loop)

    async def main() -> None:
        pool = await opened(clean_server.url)
        conn = await pool.get()
        connection = conn._lease.item
        reply = connection.submit(pack(("ECHO", "mine")), False, 5)
        connection.flush()

        def deed() -> str:
            def woken(_: object) -> None:
                heard.append("woken")

            heard: list[str] = []
            reply.add_done_callback(woken)
            connection.data_received(b"$4\r\nmine\r\n")
            own = Home.of(connection.loop)
            return f"{reply.done()} {connection._home.thread} {heard} {own.forked}"

        assert in_child(deed) == "False 0 [] False"  # what the child opens is its own
        assert await reply == b"mine"
        conn.release()
        await pool.close()

    here(main())


@both_loops
def test_a_checkout_in_a_forked_child(
    clean_server: EmbeddedServer, make_loop: MakeLoop, new_run: Callable[[MakeLoop], Run]
) -> None:
    here = new_run(make_loop)
    pool = here(opened(clean_server.url))

    async def take() -> Any:
        return await pool.get()

    conn = here(take())
    here(conn.execute("SELECT", 1))  # will be closed rather than reused, also by the child

    def deed() -> str:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            try:
                runner.run(conn.execute("ECHO", "child"))
            except WrongLoop as error:
                said = str(error)
            else:
                said = "it was sent"
            runner.run(conn.aclose())
        return said

    for _ in range(2):
        assert "this is its child" in in_child(deed)
    assert here(conn.execute("ECHO", "mine")) == b"mine"
    here(conn.aclose())
    here(pool.close())


@both_loops
def test_a_subscriber_elsewhere(
    clean_server: EmbeddedServer, make_loop: MakeLoop, new_run: Callable[[MakeLoop], Run]
) -> None:
    """In another loop and in a forked child: what it would send does not reach the socket."""
    here, there = new_run(make_loop), new_run(make_loop)
    pool = here(opened(clean_server.url))
    subscriber = pool.client.pubsub()
    here(subscriber.subscribe("one"))

    async def refused() -> str:
        with pytest.raises(WrongLoop) as e:
            await subscriber.subscribe("two")
        return str(e.value)

    def deed() -> str:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            return str(runner.run(refused()))

    assert "another event loop" in there(refused())
    assert "this is its child" in in_child(deed)
    assert here(pool.client.pubsub_channels()) == [b"one"]
    here(subscriber.aclose())
    here(pool.close())


@both_loops
def test_closing_from_another_loop(
    clean_server: EmbeddedServer, make_loop: MakeLoop, new_run: Callable[[MakeLoop], Run]
) -> None:
    """While its own lives, that is refused, and the pool stays open."""
    here, there = new_run(make_loop), new_run(make_loop)
    pool = here(opened(clean_server.url))
    client = Redis.from_url(clean_server.url)
    assert here(echo(client)) == b"mine"
    for close in (pool.close, client.aclose):
        with pytest.raises(WrongLoop, match="another event loop"):
            there(close())
    assert here(echo(pool.client)) == b"mine"
    assert here(echo(client)) == b"mine"
    here(client.aclose())
    here(pool.close())


# -- the end -------------------------------------------------------------------------------------

LEFT_OPEN = """
import asyncio, sys, uvloop
from redisutils import Redis, create_redis_pool

async def main(url):
    pool = await create_redis_pool(url=url)
    client = Redis.from_url(url)
    await client.ping()
    async def works():
        while True:
            await pool.client.ping()
    workers = [asyncio.create_task(works()) for _ in range(5)]
    blocked = asyncio.create_task(client.blpop(["queue"], 0))
    await asyncio.sleep(0.05)
    print("up", flush=True)
    if "wait" in sys.argv:
        await asyncio.sleep(60)

runner = asyncio.Runner(loop_factory=uvloop.new_event_loop if "uvloop" in sys.argv else None)
with runner:
    runner.run(main(sys.argv[1]))
print("end", flush=True)
"""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("end", ["return", "interrupt"])
def test_a_program_that_closes_nothing_ends(
    clean_server: EmbeddedServer, admin: redis.Redis, loop: str, end: str
) -> None:
    """With tasks at work and one blocked, by returning or by Ctrl-C; nothing hangs or complains."""
    before = len(admin.client_list())
    arguments = [sys.executable, "-c", LEFT_OPEN, clean_server.url, loop]
    with subprocess.Popen(
        [*arguments, "wait"] if end == "interrupt" else arguments,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            if end == "interrupt":
                assert process.stdout is not None
                assert process.stdout.readline() == "up\n"
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE)
        finally:
            process.kill()
    if end == "return":
        assert (out, err, process.returncode) == ("up\nend\n", "", 0)
    else:
        assert err.strip().endswith("KeyboardInterrupt")
        for complaint in ("never retrieved", "never awaited", "was destroyed", "is closed"):
            assert complaint not in err
    deadline_poll(lambda: len(admin.client_list()) == before)


async def test_closing_while_connecting_does_not_hang(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    proxy.blackhole()
    pool = await create_redis_pool(host=proxy.host, port=proxy.port, password=server.password)
    waiting = [asyncio.ensure_future(deed(pool)) for deed in (get, pipeline, checkout, blocking)]
    await proxy.wait_accepted(1)
    async with asyncio.timeout(1):
        await pool.close()
    # Who had begun to make a connection of his own sees to its end; the others are told at once.
    for task in waiting[:2]:
        with pytest.raises(PoolClosed):
            await task
    for task in waiting[2:]:
        task.cancel()
    await asyncio.wait(waiting)
    await proxy.wait_active(0)


async def test_after_close_nothing_connects_again(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    pool = await create_redis_pool(host=proxy.host, port=proxy.port, password=server.password)
    await get(pool)
    await pool.close()
    await pool.close()
    for deed in DEEDS:
        with pytest.raises(PoolClosed, match="closed") as e:
            await deed(pool)
        assert e.value.outcome is Outcome.NOT_SENT
    with pytest.raises(PoolClosed, match="closed: make another"):
        _ = await pool
    assert proxy.accepted == 1
    await proxy.wait_active(0)
