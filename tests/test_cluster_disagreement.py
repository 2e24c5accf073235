"""Nodes that disagree, that know less than others, or that do not answer any more: played, since
real ones do so for a moment only."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import MovedError

from redisutils import (
    AuthenticationFailed,
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    Outcome,
    create_redis_pool,
    outcome_of,
)
from redisutils.testing import EmbeddedServer
from redisutils.topology.cluster.cluster import Cluster
from redisutils.topology.cluster.keys import slot_of
from redisutils.topology.cluster.redirects import AT_ONCE

from .ours import until
from .played_cluster import PlayedCluster, played_cluster

pytestmark = pytest.mark.asyncio(loop_factories=["uvloop"])

A, B = 0, 1
IN_A, IN_B = "b", "a"  # slots 3300 and 15495: of two nodes the first and the second own them
SLOT = 3300


def cluster_of(pool: Any) -> Cluster:
    server = pool.server
    assert isinstance(server, Cluster)
    return server


async def asked(server: Cluster) -> None:
    """Somebody was asked for the map."""
    refresher = server.refresher
    rounds = refresher.rounds
    refresher.want()
    await until(lambda: refresher.rounds > rounds)


def disagreeing(cluster: PlayedCluster, accepted: list[list[bytes]]) -> list[list[bytes]]:
    """A sends all to B, which sends the first three back and accepts the rest. Returns those."""
    refused: list[list[bytes]] = []

    def by_b(command: list[bytes]) -> bytes:
        if len(refused) < 3:
            refused.append(command)
            return cluster.moved(SLOT, A)
        accepted.append(command)
        return b":%d\r\n" % len(accepted)

    cluster.said[A] = lambda _: cluster.moved(SLOT, B)
    cluster.said[B] = by_b
    return refused


async def test_nodes_that_refer_to_each_other_are_not_asked_for_ever() -> None:
    async with played_cluster() as (cluster, pool):
        cluster.said[A] = lambda _: cluster.moved(SLOT, B)
        own = cluster.said[B]
        cluster.said[B] = lambda command: (
            own(command) if command[1] == IN_B.encode() else cluster.moved(SLOT, A)
        )
        with pytest.raises(MovedError) as caught:
            await pool.client.get(IN_A)
        assert outcome_of(caught.value) is Outcome.REJECTED
        asked = [c for node in (A, B) for c in cluster.keyed(node) if c[1] == IN_A.encode()]
        assert len(asked) == 1 + AT_ONCE + 5, "as many pauses as there may be retries"
        assert await pool.client.get(IN_B) == IN_B.encode(), "other slots are served"


async def test_what_waits_for_their_agreement_keeps_its_order() -> None:
    async with played_cluster() as (cluster, pool):
        accepted: list[list[bytes]] = []
        refusals = disagreeing(cluster, accepted)
        pushing = [pool.client.rpush(IN_A, n) for n in range(3)]
        first = asyncio.gather(*pushing)
        await until(refusals.__len__)
        later = asyncio.gather(*(pool.client.rpush(IN_A, n) for n in range(3, 6)))
        assert await first == [1, 2, 3]
        assert await later == [4, 5, 6]
        assert [command[2] for command in accepted] == [b"%d" % n for n in range(6)]


async def test_a_pipeline_keeps_its_order_until_they_agree() -> None:
    """Its commands were issued in one moment, and are refused one by one."""
    async with played_cluster() as (cluster, pool):
        accepted: list[list[bytes]] = []
        disagreeing(cluster, accepted)
        pipe = pool.client.pipeline(transaction=False)
        for number in range(4):
            pipe.execute_command("RPUSH", IN_A, number)
        assert await pipe.execute() == [1, 2, 3, 4]
        assert [command[2] for command in accepted] == [b"%d" % n for n in range(4)]


async def test_the_map_of_one_who_is_behind_is_not_believed() -> None:
    async with played_cluster() as (cluster, pool):
        old = cluster.map()
        cluster.ranges = [[], [(0, 16383)]]
        cluster.epochs = [1, 2]
        new = cluster.map()
        cluster.told = lambda number: old if number == A else new
        cluster.said[A] = lambda _: cluster.moved(SLOT, B)
        server = cluster_of(pool)
        assert await pool.client.get(IN_A) == IN_A.encode()
        await until(lambda: server.owners[0].address.port == cluster.nodes[B].port)
        for _ in range(3):
            await asked(server)
        await asyncio.sleep(0)
        assert {node.address.port for node in server.owners} == {cluster.nodes[B].port}


async def test_when_all_know_less_than_was_known_they_are_believed() -> None:
    """A cluster that was set up anew counts its epochs from the beginning."""
    async with played_cluster() as (cluster, pool):
        cluster.epochs = [7, 7]
        server = cluster_of(pool)
        assert await pool.client.get(IN_A) == IN_A.encode()
        cluster.epochs = [1, 1]
        cluster.ranges = [[], [(0, 16383)]]
        server.refresher.want()
        await until(lambda: server.owners[0].address.port == cluster.nodes[B].port)


async def test_a_map_is_asked_for_once_however_many_want_it() -> None:
    async with played_cluster() as (cluster, pool):
        values = await asyncio.gather(*(pool.client.get(f"k{n}") for n in range(500)))
        assert values == [f"k{n}".encode() for n in range(500)]
        assert cluster.maps_asked() == 1
        cluster.ranges = [[], [(0, 16383)]]
        cluster.said[A] = lambda command: cluster.moved(slot_of(command[1]), B)
        await asyncio.gather(*(pool.client.get(f"k{n}") for n in range(500)))
        await until(lambda: cluster.maps_asked() >= 2)
        assert cluster.maps_asked() <= 3


async def test_one_who_lost_a_slot_and_does_not_answer_holds_nobody_up() -> None:
    """What it may answer later is nobody's; what may be repeated is, in its order."""
    async with played_cluster(command_timeout=30) as (cluster, pool):
        client = pool.client
        assert await client.get(IN_A) == IN_A.encode()
        cluster.silent.add(A)
        incremented = asyncio.ensure_future(client.incr(IN_A))
        read = asyncio.ensure_future(client.get(IN_A))
        await until(lambda: [command[0] for command in cluster.keyed(A)][1:] == [b"INCRBY", b"GET"])
        heard: list[bytes] = []

        def by_b(command: list[bytes]) -> bytes:
            heard.append(command[0])
            return b"+by B\r\n"

        cluster.said[B] = by_b
        cluster.ranges = [[], [(0, 16383)]]
        cluster.epochs = [1, 2]
        server = cluster_of(pool)
        server.refresher.want()
        await until(lambda: server.owners[SLOT].address.port == cluster.nodes[B].port)
        later = asyncio.ensure_future(client.getrange(IN_A, 0, -1))
        assert await later == b"by B"
        assert await read == b"by B"
        assert heard == [b"GET", b"GETRANGE"], "in the order of issue"
        with pytest.raises(ConnectionLost, match="has lost its slot") as caught:
            await incremented
        assert caught.value.outcome is Outcome.UNKNOWN
        assert str(cluster.nodes[A].port) in str(caught.value)
        cluster.nodes[A].say(b":41\r\n+by A\r\n")  # too late
        assert await client.get(IN_A) == b"by B"


async def test_a_slot_that_nobody_owns_is_waited_for() -> None:
    async with played_cluster() as (cluster, pool):
        cluster.ranges = [[(0, 99)], [(8192, 16383)]]
        waiting = asyncio.ensure_future(pool.client.get(IN_A))
        assert await pool.client.get(IN_B) == IN_B.encode()
        assert not waiting.done()
        cluster.ranges = [[(0, 8191)], [(8192, 16383)]]
        assert await waiting == IN_A.encode()


async def test_a_slot_that_nobody_owns_is_named_when_time_runs_out() -> None:
    async with played_cluster(command_timeout=0.3) as (cluster, pool):
        cluster.ranges = [[(0, 99)], [(8192, 16383)]]
        with pytest.raises(CommandTimeout, match="nobody owns this slot") as caught:
            await pool.client.get(IN_A)
        assert caught.value.outcome is Outcome.NOT_SENT


async def test_moved_without_a_host_means_the_one_who_says_so() -> None:
    async with played_cluster() as (cluster, pool):
        cluster.said[A] = lambda _: b"-MOVED %d :%d\r\n" % (SLOT, cluster.nodes[B].port)
        assert await pool.client.get(IN_A) == IN_A.encode()
        assert cluster.keyed(B) == [[b"GET", IN_A.encode()]]


@pytest.mark.parametrize("said", [b"-MOVED\r\n", b"-MOVED x\r\n", b"-ASK 12\r\n"])
async def test_a_redirection_to_nowhere_is_an_error_of_its_command_only(said: bytes) -> None:
    async with played_cluster() as (cluster, pool):
        cluster.said[A] = lambda command: said if command[0] == b"GET" else b"+well\r\n"
        with pytest.raises(Exception, match=r"MOVED|ASK|x|12") as caught:
            await pool.client.get(IN_A)
        assert outcome_of(caught.value) is Outcome.REJECTED
        assert await pool.client.getrange(IN_A, 0, -1) == b"well"


async def test_a_pipeline_of_which_a_part_was_moved_is_whole_again() -> None:
    async with played_cluster() as (cluster, pool):
        moved = {b"b", b"{b}2"}
        cluster.said[A] = lambda command: (
            cluster.moved(SLOT, B) if command[1] in moved else b"+A\r\n"
        )
        cluster.said[B] = lambda command: b"+B %b\r\n" % command[1]
        pipe = pool.client.pipeline(transaction=False)
        for key in ("{b}1", "b", "a", "c", "{b}2"):
            pipe.get(key)
        answers = await pipe.execute()
        assert answers == [b"A", b"B b", b"B a", b"A", b"B {b}2"]


async def test_asking_goes_with_its_command_also_when_the_connection_is_new() -> None:
    async with played_cluster() as (cluster, pool):
        cluster.said[A] = lambda command: (
            b"-ASK %d 127.0.0.1:%d\r\n"
            % (
                SLOT,
                cluster.nodes[B].port,
            )
        )
        values = await asyncio.gather(*(pool.client.get(f"{{b}}{n}") for n in range(20)))
        assert values == [f"{{b}}{n}".encode() for n in range(20)]
        heard = [command for command in cluster.nodes[B].heard if command[0] in (b"ASKING", b"GET")]
        assert [command[0] for command in heard] == [b"ASKING", b"GET"] * 20


async def test_a_plain_server_is_no_cluster(clean_server: EmbeddedServer) -> None:
    async with create_redis_pool(
        mode="cluster",
        nodes=[(clean_server.host, clean_server.port)],
        password=clean_server.password,
    ) as pool:
        with pytest.raises(ConnectFailed, match="it is no cluster: set REDIS_MODE=standalone"):
            await pool.client.get("k")


async def test_a_wrong_password_is_said_to_be_one(clean_server: EmbeddedServer) -> None:
    async with create_redis_pool(
        mode="cluster", nodes=[(clean_server.host, clean_server.port)], password="wrong"
    ) as pool:
        with pytest.raises(AuthenticationFailed):
            await pool.client.get("k")


async def test_one_who_may_not_ask_for_the_map_is_told_what_to_allow() -> None:
    async with played_cluster(max_retries=0) as (cluster, pool):
        refusal = b"-NOPERM User app has no permissions to run the 'cluster|slots' command\r\n"
        cluster.told = lambda number: refusal
        with pytest.raises(ConnectFailed, match=r"\+cluster\|shards"):
            await pool.client.get(IN_A)


async def test_without_any_node_the_error_names_each(unused_tcp_port_factory: Any) -> None:
    ports = [unused_tcp_port_factory() for _ in range(2)]
    async with create_redis_pool(
        mode="cluster",
        nodes=[("127.0.0.1", port) for port in ports],
        max_retries=1,
        retry_delay_ms=1,
    ) as pool:
        with pytest.raises(ConnectFailed) as caught:
            await pool.client.get("k")
        assert all(str(port) in str(caught.value) for port in ports)
        assert caught.value.outcome is Outcome.NOT_SENT
