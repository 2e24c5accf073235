"""A node fails, or is cut off: the others do not feel it, and nothing is answered wrongly, doubled
or lost beyond what the servers themselves have lost."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from time import monotonic

import pytest
from redis.exceptions import RedisError

from redisutils import Outcome, outcome_of
from redisutils.testing import EmbeddedCluster, EmbeddedServer
from redisutils.topology.cluster.cluster import Cluster
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.orders.records import Applied
from redisutils.trading.orders.service import Orders
from redisutils.trading.portfolio.service import Portfolio

from .cluster_load import Load, Worker
from .clusters import cluster_pool, emptied, keys_of, slots_of, told
from .ours import until
from .trading import Flow

one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])

CALLERS = 10
"""For each primary."""


@pytest.fixture(scope="module")
def own_cluster(server_kind: str) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(3, 1, server_kind, require_full_coverage=False) as cluster:
        yield cluster


@pytest.fixture
async def guarded(own_cluster: EmbeddedCluster) -> EmbeddedCluster:
    """Three primaries with a replica each, empty and in sync. Tests leave it whole."""
    return await emptied(own_cluster)


def names(cluster: EmbeddedCluster) -> list[str]:
    """Of workers, each of whose keys are on one node."""
    found: list[str] = []
    for primary in cluster.primaries:
        tags = keys_of(cluster, primary, "shard")
        found += [f"{{{next(tags)}}}" for _ in range(CALLERS)]
    return found


def on(cluster: EmbeddedCluster, load: Load, *nodes: EmbeddedServer) -> list[Worker]:
    """The workers of these nodes."""
    return load.of(lambda name: cluster.node_for(name) in nodes)


def pace(workers: Sequence[Worker], begin: float, end: float) -> float:
    """Turns done in a second."""
    done = sum(begin <= at < end for worker in workers for at in worker.successes)
    return done / (end - begin)


def least(workers: Sequence[Worker], begin: float, end: float) -> int:
    """The fewest turns that one of them did."""
    return min(sum(begin <= at < end for at in worker.successes) for worker in workers)


def is_primary(node: EmbeddedServer) -> bool:
    try:
        return bool(told(node, "INFO", "replication")["role"] == "master")
    except RedisError:
        return False


@one_loop
async def test_a_killed_primary_costs_the_others_nothing(guarded: EmbeddedCluster) -> None:
    dead = guarded.primaries[0]
    (heir,) = guarded.replicas_of(dead)
    async with cluster_pool(guarded) as pool:
        load = Load(pool.client, names(guarded), lossy=True)
        hurt, well = on(guarded, load, dead), on(guarded, load, *guarded.primaries[1:])
        async with load:
            await load.goes_on(20)
            began = monotonic() - 0.3
            await dead.kill()
            killed = monotonic()
            await until(lambda: is_primary(heir), "the election", 15)
            elected = monotonic()
            await until(lambda: all(worker.successes[-1] > elected for worker in hurt), "all", 10)
            back = min(at for worker in hurt for at in worker.successes if at > killed)
            await guarded.wait_until_ok()
            await dead.start()
            await guarded.wait_until_ok()
            await guarded.wait_in_sync()
            again = monotonic()
            await load.goes_on(20)
        await load.audit(lost_before=elected)
    before, meanwhile = pace(well, began, killed), pace(well, killed, elected)
    logging.getLogger(__name__).warning(
        "elected after %.2f s, first success %.2f s later; the others did %.0f a second before, "
        "%.0f meanwhile",
        *(elected - killed, back - elected, before, meanwhile),
    )
    assert load.complaints == []
    assert [worker.failures for worker in well] == [[]] * len(well)
    assert least(well, killed, elected) > 5
    assert back - elected < 3
    for worker in hurt:
        for at, error in worker.failures:
            assert at < again, f"it was over: {error!r}"
    assert guarded.replicas_of(heir) == [dead]


@one_loop
async def test_an_election_is_waited_for_within_the_budget(guarded: EmbeddedCluster) -> None:
    """It costs no retries: there are none here."""
    dead = guarded.primaries[0]
    key = next(keys_of(guarded, dead))
    async with cluster_pool(guarded, max_retries=0, command_timeout=20) as pool:
        assert await pool.client.set(key, "before")
        await guarded.wait_in_sync()
        await dead.kill()
        assert await pool.client.set(key, "after")
        assert await pool.client.get(key) == b"after"
    await guarded.wait_until_ok()
    await dead.start()
    await guarded.wait_until_ok()
    await guarded.wait_in_sync()


@one_loop
async def test_orders_flow_on_and_what_was_lost_is_applied_again(
    guarded: EmbeddedCluster,
) -> None:
    """A replica may be behind: what the dead primary had answered may never have happened."""
    dead = guarded.node_for(Keys("A").events)
    names_of_orders = [f"O{number}" for number in range(8)]
    async with cluster_pool(guarded, max_retries=500, command_timeout=20) as pool:
        flow = Flow(Orders(pool, account="A"), names_of_orders, 40)
        running = asyncio.create_task(flow.run())
        await flow.goes_on()
        await dead.kill()
        await asyncio.wait({running})
        lost = running.exception() is not None  # the sums that were told did not go on
        for name, reports in flow.reports.items():
            await flow.orders.place(cl_ord_id=name, instrument="ABC", side="1", order_qty=10**6)
            for result in await flow.orders.apply_all(reports):
                assert isinstance(result, Applied)
                assert result.duplicate or lost
        await flow.check(Portfolio(pool, account="A"))
    await guarded.wait_until_ok()
    await dead.start()
    await guarded.wait_until_ok()
    await guarded.wait_in_sync()


@one_loop
async def test_a_failover_on_request_is_nobodys_concern(guarded: EmbeddedCluster) -> None:
    async with cluster_pool(guarded) as pool:
        async with Load(pool.client, names(guarded)) as load:
            await load.goes_on(5)
            for primary in guarded.primaries[:2]:
                await guarded.failover(guarded.replicas_of(primary)[0])
                await load.goes_on(5)
        await until(lambda: pool.metrics().failovers == 2, "the map")
        await load.audit()
    assert load.complaints == []
    assert load.errors == []


@one_loop
async def test_a_primary_that_its_peers_do_not_hear(guarded: EmbeddedCluster) -> None:
    """Clients reach it, and it acknowledges until it notices; nobody writes to it from then on."""
    alone = guarded.primaries[0]
    (heir,) = guarded.replicas_of(alone)
    async with cluster_pool(guarded) as pool:
        load = Load(pool.client, names(guarded), lossy=True)
        hurt, well = on(guarded, load, alone), on(guarded, load, *guarded.primaries[1:])
        async with load:
            await load.goes_on(5)
            async with guarded.isolated(alone):
                await until(lambda: is_primary(heir), "the election", 15)
                slot = guarded.slot_of(hurt[0].name)
                key = hurt[0].keys[2]
                assert slot == guarded.slot_of(key)
                await until(lambda: "down" in refusal(alone, key).lower(), "its retreat", 15)
                retreat = monotonic()
                await load.goes_on(20)
                healed = monotonic()
            await load.goes_on(20)
        await load.audit(lost_before=retreat)
    assert load.complaints == []
    assert [worker.failures for worker in well] == [[]] * len(well)
    assert not [error for worker in hurt for at, error in worker.failures if at > healed]
    assert guarded.replicas_of(heir) == [alone]


def refusal(node: EmbeddedServer, key: str) -> str:
    """What a node says against a write."""
    try:
        told(node, "SET", key, 0, "XX", "GET")
    except RedisError as error:
        return str(error)
    return ""


@one_loop
async def test_a_node_that_only_we_do_not_reach(cluster: EmbeddedCluster) -> None:
    cut, *others = cluster.primaries
    async with (
        cluster.proxied(seed=7) as network,
        cluster_pool(cluster, network, command_timeout=0.5) as pool,
    ):
        load = Load(pool.client, names(cluster))
        hurt, well = on(cluster, load, cut), on(cluster, load, *others)
        async with load:
            await load.goes_on(20)
            network.proxies[cut].blackhole()
            lost = monotonic()
            await until(lambda: all(worker.failures for worker in hurt), "the failures")
            await asyncio.sleep(0.3)
            network.restore()
            restored = monotonic()
            await load.goes_on(20)
        await load.audit()
    assert load.complaints == []
    assert [worker.failures for worker in well] == [[]] * len(well)
    assert least(well, lost, restored) > 5
    for worker in hurt:
        for _, error in worker.failures:
            assert outcome_of(error) in (Outcome.UNKNOWN, Outcome.NOT_SENT), repr(error)


@one_loop
async def test_a_node_that_comes_back_empty(cluster: EmbeddedCluster) -> None:
    node, *others = cluster.primaries
    key = next(keys_of(cluster, node))
    async with cluster_pool(cluster) as pool:
        await pool.client.set(key, "v")
        load = Load(pool.client, names(cluster), lossy=True)
        well = on(cluster, load, *others)
        async with load:
            await load.goes_on(5)
            await node.kill()
            await node.start()
            await cluster.wait_until_ok()
            back = monotonic()
            await load.goes_on(5)
        assert await pool.client.get(key) is None
        await load.audit(lost_before=back)
    assert load.complaints == []
    assert [worker.failures for worker in well] == [[]] * len(well)


@one_loop
async def test_a_node_that_comes_back_elsewhere(cluster: EmbeddedCluster) -> None:
    node, *others = cluster.primaries
    async with cluster_pool(cluster) as pool:
        load = Load(pool.client, names(cluster))
        hurt, well = on(cluster, load, node), on(cluster, load, *others)
        async with load:
            await load.goes_on(5)
            await cluster.readdress(node)
            await load.goes_on(10)
        await load.audit()
    assert load.complaints == []
    assert [worker.failures for worker in well] == [[]] * len(well)
    for worker in hurt:  # its connections were killed: what was under way may have been done
        for _, error in worker.failures:
            assert outcome_of(error) is Outcome.UNKNOWN, repr(error)


@one_loop
async def test_a_cluster_of_three_of_six_of_three(cluster: EmbeddedCluster) -> None:
    first = cluster.primaries[0]
    slots = slots_of(cluster, first)[:600]
    async with cluster_pool(cluster) as pool:
        async with Load(pool.client, 50) as load:
            new = await cluster.add_primaries(3)
            for number, node in enumerate(new):
                await cluster.move_slots(slots[200 * number : 200 * (number + 1)], node)
            await load.goes_on(5)
            assert len(cluster.primaries) == 6
            for node in new:
                await cluster.remove(node)
            await load.goes_on(5)
            assert len(cluster.primaries) == 3
        await load.audit()
    assert load.complaints == []
    assert load.errors == []
    await cluster.move_slots(slots, first)  # where the next test expects them


async def test_what_came_before_a_loss_does_not_speak_for_a_node(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        await pool.client.dbsize()
        server = pool.server
        assert isinstance(server, Cluster)
        node = server.primaries[0]
        server.suspect(node)  # one of its connections was lost
        node.server.metrics.bytes_in += 1  # another one's last words
        server.suspect(node)
        assert server.suspects()
        node.server.metrics.bytes_in += 1
        assert not server.suspects()
