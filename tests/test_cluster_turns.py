"""What has to wait in a cluster waits for its turn, and for as long as it must: played, since real
nodes are in between for a moment only."""

from __future__ import annotations

import asyncio
import gc
from typing import Any, cast

import pytest
import redis

from redisutils import CommandTimeout, ConnectFailed, ConnectionLost, Outcome, outcome_of
from redisutils.connection.packing import pack
from redisutils.topology.cluster import fences
from redisutils.topology.cluster.cluster import Cluster
from redisutils.topology.cluster.node import Node

from .ours import until
from .peers import Wire
from .played_cluster import PlayedCluster, played_cluster

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

A, B, C = 0, 1, 2
IN_A, IN_B = "b", "a"  # slots 3300 and 15495: of two nodes the first and the second own them
SLOT, SLOT_B = 3300, 15495


def cluster_of(pool: Any) -> Cluster:
    return cast(Cluster, pool.server)


def ask(cluster: PlayedCluster, slot: int, number: int) -> bytes:
    """This key is there already."""
    return b"-ASK %d 127.0.0.1:%d\r\n" % (slot, cluster.nodes[number].port)


async def adopted(pool: Any, cluster: PlayedCluster, ranges: list[list[tuple[int, int]]]) -> None:
    """These own the slots now, and it is known."""
    cluster.ranges = ranges
    cluster.epochs = [epoch + 1 for epoch in cluster.epochs]
    refresher = cluster_of(pool).refresher
    for _ in range(2):
        last = refresher.last
        refresher.want()
        # mypy takes no default of a lambda's argument for its type.
        await until(lambda last=last: refresher.last > last)  # type: ignore[misc]


# -- commands of several keys, while the keys move ---------------------------------------


async def test_several_keys_that_have_not_all_arrived_come_before_what_was_issued_later() -> None:
    async with played_cluster(command_timeout=5, retry_delay_ms=5) as (cluster, pool):
        accepted: list[list[bytes]] = []
        refused = 0

        def by_b(command: list[bytes]) -> bytes:
            nonlocal refused
            if command[0] == b"MSET" and refused < 3:
                refused += 1
                return b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"
            accepted.append(command[:2])
            return b"+OK\r\n"

        cluster.said[A] = lambda _: ask(cluster, SLOT, B)
        cluster.said[B] = by_b
        client = pool.client
        both = {f"{{{IN_A}}}1": "1", f"{{{IN_A}}}2": "1"}
        key = f"{{{IN_A}}}1"
        first = [client.mset(both), client.set(key, "2"), client.append(key, "3")]
        running = asyncio.gather(*first)
        await until(lambda: refused >= 1)
        later = client.setrange(key, 0, "4")
        await asyncio.gather(running, later)
        names = [command[0] for command in accepted]
        assert names == [b"MSET", b"SET", b"APPEND", b"SETRANGE"]


async def test_several_keys_that_do_not_arrive_hold_up_nobody_for_long() -> None:
    """They may wait for their budget while nobody else wants the slot, and fail when others do."""
    async with played_cluster(command_timeout=20, retry_delay_ms=5, max_retries=1000) as (
        cluster,
        pool,
    ):
        refused = 0
        arrived = False

        def by_b(command: list[bytes]) -> bytes:
            nonlocal refused
            if command[0] == b"MGET" and not arrived:
                refused += 1
                return b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n"
            return b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n" if command[0] == b"MGET" else b"+OK\r\n"

        cluster.said[A] = lambda _: ask(cluster, SLOT, B)
        cluster.said[B] = by_b
        names = [f"{{{IN_A}}}1", f"{{{IN_A}}}2"]
        alone = asyncio.ensure_future(pool.client.mget(names))
        await until(lambda: refused > 5)
        assert not alone.done()
        # That one is in its way, for less than a twentieth of both budgets.
        async with asyncio.timeout(10):
            assert await pool.client.set(names[0], "3") is True
        with pytest.raises(redis.ResponseError, match="rehashing of slot") as caught:
            await alone
        assert outcome_of(caught.value) is Outcome.REJECTED

        again = asyncio.ensure_future(pool.client.mget(names))
        seen = refused
        await until(lambda: refused > seen)
        arrived = True
        assert await again == [b"1", b"2"]


async def test_many_commands_of_several_keys_that_move_are_all_executed_in_order() -> None:
    async with played_cluster(command_timeout=5) as (cluster, pool):
        accepted: list[bytes] = []

        def by_b(command: list[bytes]) -> bytes:
            accepted.append(command[2])
            return b"+OK\r\n"

        cluster.said[A] = lambda _: ask(cluster, SLOT, B)
        cluster.said[B] = by_b
        pipe: Any = pool.client.pipeline(transaction=False)
        for number in range(20):
            pipe.mset({f"{{{IN_A}}}1": number, f"{{{IN_A}}}2": number})
        assert await pipe.execute() == [True] * 20
        assert accepted == [b"%d" % number for number in range(20)]


async def test_who_is_asked_for_several_keys_and_dies_holds_up_nobody() -> None:
    async with played_cluster(command_timeout=5) as (cluster, pool):
        asked = 0

        def by_b(command: list[bytes]) -> bytes:
            nonlocal asked
            asked += 1
            if asked == 1:
                loop = asyncio.get_running_loop()
                for transport in cluster.nodes[B].open:
                    loop.call_soon(transport.abort)
                return b""
            return b"*2\r\n$1\r\n1\r\n$1\r\n2\r\n" if command[0] == b"MGET" else b"+OK\r\n"

        cluster.said[A] = lambda _: ask(cluster, SLOT, B)
        cluster.said[B] = by_b
        client = pool.client
        calls: list[Any] = [
            client.mget(f"{{{IN_A}}}1", f"{{{IN_A}}}2"),
            client.set(f"{{{IN_A}}}1", "2"),
        ]
        assert await asyncio.gather(*calls) == [[b"1", b"2"], True]


# -- what concerns all slots ---------------------------------------------------------------


async def test_all_is_emptied_after_what_was_held_and_before_what_came_later() -> None:
    async with played_cluster(command_timeout=10) as (cluster, pool):
        client = pool.client
        assert await client.get(IN_B) == IN_B.encode()
        cluster.said[A] = lambda _: b"+OK\r\n"
        cluster.said[B] = lambda _: b""
        owed = asyncio.ensure_future(client.incr(IN_B))
        await until(lambda: len(cluster.keyed(B)) == 2)
        cluster.silent.add(B)
        await adopted(pool, cluster, [[(0, 16383)], []])
        before = len(cluster.keyed(A))
        calls = [
            client.set(IN_B, 1),
            client.flushall(),
            client.set(IN_B, 2),
            client.set(IN_A, 3),
            client.flushdb(),
            client.set(IN_A, 4),
        ]
        running = [asyncio.ensure_future(call) for call in calls]
        await until(lambda: cluster_of(pool).lane().holds == len(calls))
        cluster.nodes[B].say(b":7\r\n")
        assert await owed == 7
        assert await asyncio.gather(*running) == [True] * len(calls)
        heard = [b" ".join(command) for command in cluster.keyed(A)[before:]]
        assert heard == [b"SET a 1", b"FLUSHALL", b"SET a 2", b"SET b 3", b"FLUSHDB", b"SET b 4"]
        assert not cluster_of(pool).lane().holds


# -- those that owe answers ----------------------------------------------------------------


async def test_of_two_that_owe_answers_each_is_given_its_own_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(fences, "PATIENCE", 30.0)
    third = 16384 // 3
    first, second, last = (0, third - 1), (third, 2 * third), (2 * third + 1, 16383)
    in_b, in_c = "k", IN_B
    async with played_cluster(3, command_timeout=20) as (cluster, pool):
        client, server = pool.client, cluster_of(pool)
        cluster.ranges = [[first], [second], [last]]
        assert await client.get(in_c) == in_c.encode()
        slot = next(s for s, node in enumerate(server.owners) if node is server.primaries[1])
        assert slot == third
        in_b = next(k for k in map(str, range(1000)) if third <= _slot(k) <= 2 * third)
        assert await client.get(in_b) == in_b.encode()
        cluster.said[B] = cluster.said[C] = lambda _: b""
        by_c = asyncio.ensure_future(client.incr(in_c))
        by_b = asyncio.ensure_future(client.incr(in_b))
        await until(lambda: len(cluster.keyed(B)) == len(cluster.keyed(C)) == 2)
        cluster.silent |= {B, C}
        await adopted(pool, cluster, [[first], [second, last], []])
        server.suspect(server.owners[_slot(in_b)])
        await adopted(pool, cluster, [[first, second, last], [], []])
        with pytest.raises(ConnectionLost, match=rf":{cluster.nodes[B].port} had been sent"):
            await by_b
        assert not by_c.done()
        cluster.nodes[C].say(b":7\r\n")
        assert await by_c == 7


def _slot(key: str) -> int:
    from redisutils.topology.cluster.keys import slot_of

    return slot_of(key.encode())


async def test_a_node_that_was_asked_and_has_left_is_forgotten() -> None:
    async with played_cluster(3, command_timeout=10) as (cluster, pool):
        client = pool.client
        cluster.ranges = [[(0, 8191)], [(8192, 16383)], []]
        cluster.said[A] = lambda _: ask(cluster, SLOT, C)
        cluster.said[C] = lambda _: b""
        asked = asyncio.ensure_future(client.get(IN_A))
        await until(lambda: len(cluster.keyed(C)) == 2)
        cluster.silent.add(C)
        await adopted(pool, cluster, cluster.ranges)
        cluster.nodes[C].say(b"$1\r\n7\r\n")
        assert await asked == b"7"
        await until(lambda: not cluster_of(pool)._leaving)
        del asked
        gc.collect()
        nodes = [one for one in gc.get_objects() if isinstance(one, Node)]
        assert cluster.nodes[C].port not in {node.address.port for node in nodes}


async def test_a_command_that_was_asked_in_vain_is_named_by_its_own_name() -> None:
    async with Wire() as wire:
        asked = pack(("ASKING",)) + pack(("GETRANGE", IN_A, 0, -1))
        with pytest.raises(CommandTimeout, match=" to GETRANGE within"):
            await wire.connection.submit_many(asked, 2, False, 0.05)


# -- what any node may answer ----------------------------------------------------------------


async def test_what_any_node_may_answer_is_asked_of_another_when_one_dies() -> None:
    async with played_cluster(command_timeout=10) as (cluster, pool):
        dead: list[int] = []

        def played(number: int) -> Any:
            def answer(command: list[bytes]) -> bytes:
                if not dead:
                    dead.append(number)
                    cluster.silent.add(number)
                    cluster.nodes[number].polite = False
                    for transport in cluster.nodes[number].open:
                        asyncio.get_running_loop().call_soon(transport.abort)
                if number in dead:
                    return b""
                return b"*2\r\n$1\r\n7\r\n$1\r\n0\r\n"

            return answer

        cluster.said = [played(A), played(B)]
        async with asyncio.timeout(5):
            running = asyncio.gather(*(pool.client.time() for _ in range(10)))
            await until(lambda: dead)
            lane, nodes = cluster_of(pool).lane(), cluster_of(pool).nodes.values()
            (node,) = (n for n in nodes if n.address.port == cluster.nodes[dead[0]].port)
            await until(lambda: not node.connected)
            left = lane.opened(node)
            assert left is not None
            assert left.depth == 0, "at once"
            answers = await running
        assert answers == [(7, 0)] * 10


async def test_what_waits_for_one_that_cannot_be_reached_is_asked_of_another() -> None:
    async with played_cluster(command_timeout=20, connection_timeout=20) as (cluster, pool):
        cluster.said[A] = lambda _: b"*2\r\n$1\r\n7\r\n$1\r\n0\r\n"
        assert await pool.client.getrange(IN_A, 0, -1) is not None
        cluster.nodes[B].polite = False
        cluster.silent.add(B)
        await cluster.nodes[B].__aexit__(None, None, None)
        async with asyncio.timeout(10):
            answers = await asyncio.gather(*(pool.client.time() for _ in range(30)))
        assert answers == [(7, 0)] * 30


# -- what is told ------------------------------------------------------------------------------


async def test_an_error_that_tells_of_others_tells_its_own_outcome_alone() -> None:
    async with played_cluster(command_timeout=5, retry="never") as (cluster, pool):

        def hang_up(number: int) -> bytes:
            for transport in cluster.nodes[number].open:
                asyncio.get_running_loop().call_soon(transport.abort)
            return b""

        cluster.told = hang_up
        with pytest.raises(ConnectFailed, match="was lost") as caught:
            await pool.client.get(IN_A)
        assert str(caught.value).count("[outcome:") == 1
        assert str(caught.value).endswith("[outcome: NOT_SENT]")
