"""What befalls a cluster seldom: ends and beginnings, nodes that go, nodes that talk nonsense."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import Any, cast

import pytest
from redis.exceptions import MovedError, RedisError, ResponseError

from redisutils import (
    CommandTimeout,
    ConnectionLost,
    CrossSlot,
    Outcome,
    PoolClosed,
    WrongLoop,
    outcome_of,
)
from redisutils.topology.cluster.cluster import Cluster

from .ours import until
from .played_cluster import PlayedCluster, played_cluster

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

A, B = 0, 1
IN_A, IN_B = "b", "a"  # slots 3300 and 15495: of two nodes the first and the second own them
SLOT, SLOT_B = 3300, 15495


def cluster_of(pool: Any) -> Cluster:
    return cast(Cluster, pool.server)


async def adopted(pool: Any) -> None:
    """A map has come that was asked for after this call."""
    for _ in range(2):
        await looked(cluster_of(pool))


async def looked(server: Cluster) -> None:
    """A map has come."""
    refresher = server.refresher
    last = refresher.last
    refresher.want()
    await until(lambda: refresher.last > last)


def silence(cluster: PlayedCluster, number: int) -> None:
    """Connections to this node end, and those that follow do not get on."""
    cluster.silent.add(number)
    cluster.nodes[number].polite = False
    for transport in list(cluster.nodes[number].open):
        transport.abort()


# -- what nodes say ----------------------------------------------------------------------


async def test_nobody_in_a_cluster_is_told_to_use_a_cluster() -> None:
    async with played_cluster() as (cluster, pool):
        cluster.said[A] = lambda _: cluster.moved(SLOT, A)
        with pytest.raises(MovedError) as caught:
            await pool.client.get(IN_A)
        assert "REDIS_MODE" not in str(caught.value)
        assert str(SLOT) in str(caught.value)


@pytest.mark.parametrize("slot", ["16384", "99999", "-1"])
@pytest.mark.parametrize("code", ["MOVED", "ASK"])
async def test_a_slot_that_there_is_not(code: str, slot: str) -> None:
    async with played_cluster(command_timeout=2) as (cluster, pool):
        said = f"-{code} {slot} 127.0.0.1:{cluster.nodes[B].port}\r\n".encode()
        cluster.said[A] = lambda command: said if command[0] == b"GET" else b"+well\r\n"
        with pytest.raises(ResponseError, match=slot):
            await pool.client.get(IN_A)
        assert await pool.client.getrange(IN_A, 0, -1) == b"well"
        assert len(cluster_of(pool).owners) == 16384


async def test_a_port_that_there_is_not() -> None:
    async with played_cluster(command_timeout=2) as (cluster, pool):
        said = b"-MOVED %d 127.0.0.1:99999\r\n" % SLOT
        cluster.said[A] = lambda command: said if command[0] == b"GET" else b"+well\r\n"
        with pytest.raises(ResponseError, match="99999"):
            await pool.client.get(IN_A)
        assert await pool.client.getrange(IN_A, 0, -1) == b"well"


@pytest.mark.parametrize(
    "nonsense",
    [
        b"+OK\r\n",
        b"$-1\r\n",
        b":1\r\n",
        b"*1\r\n*3\r\n:0\r\n:20000\r\n*2\r\n$9\r\n127.0.0.1\r\n:1\r\n",
        b"*1\r\n*3\r\n:0\r\n:16383\r\n*1\r\n$9\r\n127.0.0.1\r\n",
    ],
)
async def test_a_map_that_is_none_is_not_the_last_word(nonsense: bytes) -> None:
    async with played_cluster(command_timeout=3) as (cluster, pool):
        server = cluster_of(pool)
        assert await pool.client.get(IN_B) == IN_B.encode()
        cluster.told = lambda number: nonsense if number == A else cluster.map()
        await adopted(pool)
        assert len(server.owners) == 16384
        assert pool.metrics().background_errors == 0


# -- nodes that go -----------------------------------------------------------------------


async def test_what_was_meant_for_one_node_is_not_executed_by_another() -> None:
    async with played_cluster(command_timeout=3) as (cluster, pool):
        client = pool.client
        assert await client.get(IN_A) == IN_A.encode()
        assert await client.get(IN_B) == IN_B.encode()
        server = cluster_of(pool)
        left = next(n for n in server.primaries if n.address.port == cluster.nodes[B].port)
        silence(cluster, B)
        await until(lambda: not left.connected)
        meant = asyncio.ensure_future(client.flushall(target_nodes=str(left.address)))
        await until(lambda: cluster.nodes[B].accepted >= 2)
        cluster.ranges = [[(0, 16383)], []]
        cluster.epochs = [2, 2]
        await adopted(pool)
        with pytest.raises(RedisError) as caught:
            await meant
        assert outcome_of(caught.value) in (Outcome.NOT_SENT, Outcome.UNKNOWN)
        assert [b"FLUSHALL"] not in cluster.keyed(A)


@pytest.mark.parametrize("private", [False, True])
async def test_a_node_that_leaves_may_answer_what_it_owes(private: bool) -> None:
    async with played_cluster(command_timeout=5) as (cluster, pool):
        client = pool.client.client() if private else pool.client
        assert await client.get(IN_B) == IN_B.encode()
        cluster.said[B] = lambda _: b""
        owed = asyncio.ensure_future(client.incr(IN_B))
        await until(lambda: len(cluster.keyed(B)) == 2)
        cluster.silent.add(B)
        cluster.ranges = [[(0, 16383)], []]
        cluster.epochs = [2, 2]
        await adopted(pool)
        cluster.nodes[B].say(b":7\r\n")
        assert await owed == 7
        await client.aclose()


@pytest.mark.asyncio(loop_factories=["asyncio", "uvloop"])
async def test_who_was_silent_before_his_slot_went_is_not_waited_for() -> None:
    async with played_cluster(command_timeout=30) as (cluster, pool):
        client, server = pool.client, cluster_of(pool)
        assert await client.get(IN_B) == IN_B.encode()
        node = server.owners[SLOT_B]
        cluster.said[B] = lambda _: b""
        owed = asyncio.ensure_future(client.incr(IN_B))
        await until(lambda: len(cluster.keyed(B)) == 2)
        cluster.silent.add(B)
        server.suspect(node)
        cluster.ranges = [[(0, 16383)], []]
        cluster.epochs = [2, 2]
        async with asyncio.timeout(10):
            await adopted(pool)
            assert await client.get(IN_B) == IN_B.encode()
            with pytest.raises(ConnectionLost, match="has lost its slot"):
                await owed


# -- beginnings and ends -----------------------------------------------------------------


async def test_all_is_emptied_before_what_is_written_after() -> None:
    async with played_cluster() as (cluster, pool):
        pipe: Any = pool.client.pipeline(transaction=False)
        pipe.set(IN_A, 1).flushall().set(IN_A, 2).set(IN_B, 3)
        await pipe.execute()
        names = [[command[0] for command in cluster.keyed(node)] for node in (A, B)]
        assert names == [[b"SET", b"FLUSHALL", b"SET"], [b"FLUSHALL", b"SET"]]


@pytest.mark.parametrize("how", ["get", "dbsize", "blpop", "scan"])
async def test_who_waits_for_the_map_is_told_of_the_end(how: str) -> None:
    async with played_cluster() as (cluster, pool):
        cluster.silent = {A, B}

        async def wait() -> Any:
            if how == "get":
                return await pool.get()
            return await getattr(pool.client, how)(*(("k",) if how == "blpop" else ()))

        waiting = asyncio.ensure_future(wait())
        await until(lambda: cluster_of(pool).waiting())
        await pool.close()
        with pytest.raises(PoolClosed):
            await waiting


async def test_nothing_is_opened_while_all_is_closed() -> None:
    async with played_cluster() as (cluster, pool):
        client = pool.client
        assert await client.get(IN_A) == IN_A.encode()
        cluster.said[A] = lambda _: b""
        owed = asyncio.ensure_future(client.get(IN_A))
        await until(lambda: len(cluster.keyed(A)) == 2)
        closing = asyncio.ensure_future(pool.close(drain=5))
        await until(lambda: cluster_of(pool).closed)
        with pytest.raises(PoolClosed):
            await client.get(IN_B)
        cluster.nodes[A].say(b"+late\r\n")
        assert await owed == b"late"
        await closing
        await until(lambda: not cluster.nodes[B].open)


async def test_another_loop_opens_no_nodes_pool() -> None:
    async with played_cluster() as (_, pool):
        client = pool.client
        assert await client.get(IN_A) == IN_A.encode()
        caught: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(client.get(IN_B))
            except BaseException as error:  # noqa: BLE001  # looked at below
                caught.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await asyncio.to_thread(thread.join)
        assert [type(error) for error in caught] == [WrongLoop]
        assert await client.get(IN_B) == IN_B.encode()


# -- what has many parts -----------------------------------------------------------------


@pytest.mark.parametrize("how", ["pipeline", "mset", "scattered", "asked"])
async def test_what_a_caller_has_given_up_is_not_sent_later(how: str) -> None:
    async with played_cluster(command_timeout=10) as (cluster, pool):
        client = pool.client
        cluster.said = [lambda _: b"+OK\r\n"] * 2
        await client.set(IN_A, 1)
        silence(cluster, B)
        if how == "mset":
            calling = asyncio.ensure_future(client.mset({IN_A: 2, IN_B: 2}))
        else:
            pipe: Any = client.pipeline(transaction=False)
            pipe.set(IN_A, 2)
            if how == "pipeline":
                pipe.set(IN_B, 2)
            else:
                said = cluster.moved(SLOT, B)
                if how == "asked":
                    said = said.replace(b"MOVED", b"ASK")
                cluster.said[A] = lambda command: said if command[1] == b"{b}2" else b"+OK\r\n"
                pipe.set("{b}2", 2)
            calling = asyncio.ensure_future(pipe.execute())
        await until(lambda: cluster.nodes[B].accepted > 0)
        await until(lambda: cluster.keyed(A)[-1][-1] == b"2")
        for _ in range(5):
            await asyncio.sleep(0)
        calling.cancel()
        with pytest.raises(asyncio.CancelledError):
            await calling
        cluster.nodes[B].polite = True
        cluster.silent.clear()
        for transport in list(cluster.nodes[B].open):
            transport.abort()
        await client.set("{a}later", 3)
        sets = [command for command in cluster.keyed(B) if command[0] in (b"SET", b"MSET")]
        assert [command[-1] for command in sets] == [b"3"]


async def test_a_pipeline_that_cannot_be_issued_whole_is_not_issued() -> None:
    async with played_cluster() as (cluster, pool):
        pipe: Any = pool.client.pipeline(transaction=False)
        pipe.set(IN_A, 1).ping().sinter(IN_A, IN_B)
        with pytest.raises(CrossSlot) as caught:
            await pipe.execute()
        assert outcome_of(caught.value) is Outcome.NOT_SENT
        await pool.client.get(IN_A)
        assert cluster.keyed(A) == [[b"GET", IN_A.encode()]]


async def test_a_part_that_ran_is_not_denied() -> None:
    async with played_cluster() as (cluster, pool):
        cluster.said = [lambda _: b"+OK\r\n"] * 2
        async with pool.client.client() as client:
            await client.set(IN_A, 1)
            await client.set(IN_B, 1)
            lane = client._private
            assert lane is not None
            lane.taint()
            cluster.said[B] = lambda _: None
            with pytest.raises(ConnectionLost):
                await client.set(IN_B, 1)
            with pytest.raises(RedisError) as caught:
                await client.mset({IN_A: 1, IN_B: 2})
            await until(lambda: cluster.keyed(A)[-1][0] == b"MSET")
            assert outcome_of(caught.value) is Outcome.UNKNOWN
            pipe: Any = client.pipeline(transaction=False)
            pipe.set(IN_A, 3).set(IN_B, 4)
            answers = await pipe.execute(raise_on_error=False)
            assert answers[0] is True
            assert outcome_of(answers[1]) is Outcome.NOT_SENT


# -- time ---------------------------------------------------------------------------------


async def test_who_waits_for_another_task_on_his_connection_waits_within_his_budget() -> None:
    async with played_cluster(command_timeout=0.3) as (cluster, pool):
        cluster.said[A] = lambda command: b"" if command[0] == b"BLPOP" else b"+OK\r\n"
        async with pool.get(key=IN_A) as conn:
            blocking = asyncio.ensure_future(conn.blpop(IN_A, timeout=0))
            await until(lambda: bool(cluster.keyed(A)))
            with pytest.raises(CommandTimeout, match="other tasks") as caught:
                await conn.get(IN_B)
            assert caught.value.outcome is Outcome.NOT_SENT
            assert not blocking.done()
            cluster.nodes[A].say(b"*2\r\n$1\r\nb\r\n$1\r\nv\r\n")
            assert await blocking is not None
            assert await conn.get(IN_B) == IN_B.encode()


@pytest.mark.parametrize("how", ["get", "set", "dbsize", "scan", "blpop", "flushall"])
async def test_whoever_waits_for_a_map_in_vain_is_counted_once(how: str) -> None:
    async with played_cluster(command_timeout=0.2) as (cluster, pool):
        cluster.silent = {A, B}
        pool.timeouts = replace(pool.timeouts, create=0.2)
        words = {"set": ("k", "v"), "blpop": ("k",)}.get(how, ())
        with pytest.raises(RedisError) as caught:
            await (pool.get() if how == "get" else getattr(pool.client, how)(*words))
        assert outcome_of(caught.value) is Outcome.NOT_SENT
        figures = pool.metrics()
        assert sum(figures.failures.values()) == 1
        assert figures.timeouts == (how != "get")


@pytest.mark.parametrize("code", [b"MOVED", b"ASK"])
async def test_a_write_without_an_answer_is_counted_whoever_was_asked(code: bytes) -> None:
    async with played_cluster(command_timeout=0.3) as (cluster, pool):
        said = cluster.moved(SLOT, B).replace(b"MOVED", code)
        cluster.said[A] = lambda command: said if command[1] == b"{b}2" else b":1\r\n"

        def silent_from_now_on(_: list[bytes]) -> bytes:
            cluster.silent.add(B)
            return b""

        cluster.said[B] = silent_from_now_on
        pipe: Any = pool.client.pipeline(transaction=False)
        pipe.incr(IN_A).incr("{b}2")
        one, other = await pipe.execute(raise_on_error=False)
        assert one == 1
        assert outcome_of(other) is Outcome.UNKNOWN
        figures = pool.metrics()
        assert figures.unknown_writes == 1
        assert figures.timeouts == isinstance(other, CommandTimeout)  # or its silence is noticed
        cluster.silent.clear()
        with pytest.raises(RedisError) as caught:
            await pool.client.incr("{b}2")
        assert outcome_of(caught.value) is Outcome.UNKNOWN
        figures = pool.metrics()
        assert figures.unknown_writes == 2
        assert sum(figures.failures.values()) == 2


async def test_what_is_sent_on_is_not_executed_in_another_state() -> None:
    async with played_cluster() as (cluster, pool), pool.client.client() as client:
        await client.get(IN_A)
        await client.get(IN_B)
        lane = client._private
        assert lane is not None
        lane.taint()
        cluster.said = [lambda _: cluster.moved(SLOT, B), lambda _: None]
        with pytest.raises(ConnectionLost):
            await client.get(IN_B)
        with pytest.raises(ConnectionLost, match="set it again") as caught:
            await client.get(IN_A)
        assert caught.value.outcome is Outcome.REJECTED
        asked = [command for command in cluster.keyed(B) if command[1] == IN_A.encode()]
        assert asked == []
