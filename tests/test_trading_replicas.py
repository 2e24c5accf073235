"""Trading in a cluster whose primaries have replicas: quotes, books, live feeds, trades and orders,
while slots move and nodes come and go."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from time import time_ns
from typing import Any

import pytest
import redis

from redisutils import RedisPool
from redisutils.testing import EmbeddedCluster, EmbeddedServer
from redisutils.trading.errors import TradesMissing
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.ledger.outbox import Gap
from redisutils.trading.market.book import BookDelta, BookSnapshot
from redisutils.trading.market.data import MarketData
from redisutils.trading.market.quotes import Quote
from redisutils.trading.market.subscription import Subscription
from redisutils.trading.orders.service import Orders
from redisutils.trading.portfolio.service import Portfolio
from redisutils.trading.times import SECOND

from .clusters import cluster_pool, emptied, told
from .ours import until
from .trades import a_tape, bars_of
from .trading import Flow

NOW = time_ns() - SECOND


def quote(number: int, instrument: str) -> Quote:
    """The feed's quote of this number."""
    return Quote.of(instrument, number, number + 1, ts_event=NOW + number, ts_recv=NOW, seq=number)


@pytest.fixture(scope="module")
def own_cluster(server_kind: str) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(3, 1, server_kind) as cluster:
        yield cluster


@pytest.fixture
async def cluster(own_cluster: EmbeddedCluster) -> EmbeddedCluster:
    """Three primaries with a replica each."""
    return await emptied(own_cluster)


@pytest.fixture
async def pool(cluster: EmbeddedCluster) -> AsyncIterator[RedisPool]:
    async with cluster_pool(cluster) as pool:
        yield pool


def names_at(cluster: EmbeddedCluster, node: int, count: int) -> list[str]:
    """Instruments whose keys this primary has."""
    owner = cluster.primaries[node]
    found = (f"I{number}" for number in range(10_000))
    mine = (name for name in found if cluster.node_for(f"md:{{{name}}}:q") is owner)
    return [next(mine) for _ in range(count)]


async def read(subscription: Subscription, count: int) -> list[int | None]:
    """The numbers of the next quotes."""
    async with asyncio.timeout(10):
        return [(await anext(subscription)).seq for _ in range(count)]


async def accounted(subscription: Subscription, last: int) -> int:
    """Read up to the quote of this number; how many were heard or missed."""
    count = 0
    async with asyncio.timeout(10):
        async for update in subscription.updates():
            assert update.missed is not None
            count += 1 + update.missed
            if update.value.seq == last:
                break
    return count


# -- quotes and books ----------------------------------------------------------------------------


async def test_each_slot_has_its_call(pool: RedisPool) -> None:
    market = MarketData(pool, history=100)
    names = [f"I{number}" for number in range(50)]
    assert all(await market.put_quotes([quote(1, name) for name in names]))
    found = await market.quotes(names)
    assert all(found[name].fresh for name in names)
    assert (await market.quote("I7")).value == quote(1, "I7")
    assert [one async for one in market.quote_history("I7")] == [quote(1, "I7")]


async def test_a_writer(pool: RedisPool) -> None:
    market = MarketData(pool, history=1000)
    async with market.writer(conflate=False) as writer:
        for number in range(2000):
            await writer.put(quote(number, f"I{number % 50}"))
    seqs = [one.seq async for one in market.quote_history("I7")]
    assert seqs == list(range(7, 2000, 50))
    assert writer.stats().written == 2000


async def test_books(pool: RedisPool) -> None:
    market = MarketData(pool, prefix="test:")
    names = [f"I{number}" for number in range(20)]
    times: dict[str, Any] = {"ts_event": NOW, "ts_recv": NOW}
    for name in names:
        writer = market.book_writer(name, "0.5")
        await writer.snapshot(BookSnapshot(bids=[("99.5", "2")], asks=[], seq=10, **times))
        delta = BookDelta(bids=[("98.0", "1")], seq=11, **times)
        assert await writer.apply(delta) == "applied"
    views = await market.books(names, levels=3)
    assert [view.bids[1].price for view in views.values()] == [98] * 20


async def test_a_writer_goes_on_through_a_failover(
    cluster: EmbeddedCluster, pool: RedisPool
) -> None:
    market = MarketData(pool, history=10_000)
    (name,) = names_at(cluster, 0, 1)
    (replica,) = cluster.replicas_of(cluster.primaries[0])
    async with market.writer(conflate=False) as writer:
        taking_over = asyncio.create_task(cluster.failover(replica))
        number = 0
        while not taking_over.done() or number < 100:
            number += 1
            await writer.put(quote(number, name))
            await asyncio.sleep(0.001)
        await taking_over
        await writer.flush()
        assert (writer.stats().lost, writer.stats().held) == (0, 0)
    seqs = [one.seq async for one in market.quote_history(name)]
    assert sorted(seq or 0 for seq in seqs) == list(range(1, number + 1))


# -- live feeds ----------------------------------------------------------------------------------


async def test_what_the_nodes_publish_is_heard(
    cluster: EmbeddedCluster, market: MarketData
) -> None:
    names = [name for node in range(3) for name in names_at(cluster, node, 10)]
    subscriptions = [market.subscribe(name, "block") for name in names]
    await market.put_quotes([quote(1, name) for name in names])
    assert [await read(one, 1) for one in subscriptions] == [[1]] * 30
    await market.put_quotes([quote(number, name) for name in names for number in (2, 3)])
    assert [await read(one, 2) for one in subscriptions] == [[2, 3]] * 30
    assert [one.gaps for one in subscriptions] == [0] * 30


@pytest.mark.parametrize("cut", [1, 3])
async def test_connections_that_were_cut(
    cluster: EmbeddedCluster, market: MarketData, cut: int
) -> None:
    names = [name for node in range(3) for name in names_at(cluster, node, 5)]
    subscriptions = [market.subscribe(name, "block") for name in names]
    await market.put_quotes([quote(1, name) for name in names])
    assert [await read(one, 1) for one in subscriptions] == [[1]] * 15
    for node in cluster.primaries[:cut]:
        told(node, "CLIENT", "KILL", "TYPE", "pubsub")
    await market.put_quotes([quote(number, name) for name in names for number in (2, 3, 4)])
    assert [await accounted(one, 4) for one in subscriptions] == [3] * 15
    assert [one.gaps for one in subscriptions[5 * cut :]] == [0] * (15 - 5 * cut)


async def test_a_slot_that_moves(cluster: EmbeddedCluster, market: MarketData) -> None:
    (name,), (other,) = names_at(cluster, 0, 1), names_at(cluster, 1, 1)
    # Nobody reads these while it lasts: were they full, nothing would be read for the others.
    moving, staying = (market.subscribe(one, "block", capacity=100_000) for one in (name, other))
    await market.put_quotes([quote(1, name), quote(1, other)])
    assert (await read(moving, 1), await read(staying, 1)) == ([1], [1])
    slot = cluster.slot_of(f"md:{{{name}}}:q")
    home, away = cluster.primaries[0], cluster.primaries[2]
    number = 1
    for target in (away, home):
        shifting = asyncio.create_task(cluster.move_slot(slot, target))
        first = number + 1
        while not shifting.done() or number < first + 20:
            number += 1
            await market.put_quotes([quote(number, name), quote(number, other)])
        await shifting
        assert await accounted(moving, number) == number - first + 1
    assert await read(staying, number - 1) == list(range(2, number + 1))
    assert staying.gaps == 0


async def test_a_replica_that_takes_over(cluster: EmbeddedCluster, market: MarketData) -> None:
    (name,), (other,) = names_at(cluster, 0, 1), names_at(cluster, 1, 1)
    # Nobody reads these while it lasts: were they full, nothing would be read for the others.
    moving, staying = (market.subscribe(one, "block", capacity=100_000) for one in (name, other))
    await market.put_quotes([quote(1, name), quote(1, other)])
    assert (await read(moving, 1), await read(staying, 1)) == ([1], [1])
    (replica,) = cluster.replicas_of(cluster.primaries[0])
    taking_over = asyncio.create_task(cluster.failover(replica))
    number = 1
    while not taking_over.done() or number < 20:
        number += 1
        await market.put_quotes([quote(number, name), quote(number, other)])
    await taking_over
    await market.put_quote(quote(number + 1, name))
    assert await accounted(moving, number + 1) == number
    assert await read(staying, number - 1) == list(range(2, number + 1))
    assert staying.gaps == 0


async def test_a_node_that_is_away_takes_no_other_along(cluster: EmbeddedCluster) -> None:
    settings: dict[str, Any] = {
        "command_timeout": 0.3,
        "max_retries": 1,
        "retry_delay_ms": 5,
        "retry_max_delay_ms": 20,
    }
    gone, here = names_at(cluster, 0, 2), names_at(cluster, 1, 2)
    async with (
        cluster.proxied() as network,
        cluster_pool(cluster, network, **settings) as pool,
        cluster_pool(cluster) as near_pool,
        MarketData(pool) as market,
        MarketData(near_pool) as near,
    ):
        lost, kept = market.subscribe(gone[0], "block"), market.subscribe(here[0], "block")
        await near.put_quotes([quote(1, gone[0]), quote(1, here[0])])
        assert (await read(lost, 1), await read(kept, 1)) == ([1], [1])
        proxy = network.proxies[cluster.primaries[0]]
        proxy.refuse()
        proxy.reset()
        hub = market._hub
        assert hub is not None
        await until(lambda: not hub._feeds[f"md:{{{gone[0]}}}:q".encode()][0].live)
        new_lost, new_kept = market.subscribe(gone[1], "block"), market.subscribe(here[1], "block")
        names = [*gone, *here]
        for number in range(2, 20):
            await near.put_quotes([quote(number, name) for name in names])
            await asyncio.sleep(0.05)
        assert await accounted(kept, 19) == 18
        assert kept.gaps == 0
        assert (await read(new_kept, 1))[0] is not None
        assert await accounted(new_kept, 19) > 0
        assert (lost.pending, new_lost.pending) == (0, 0)
        proxy.restore()
        assert await read(new_lost, 1) == [19]
        assert await accounted(lost, 19) == 18
        assert (lost.gaps, lost.missed) == (1, 17)


# -- trades and orders ---------------------------------------------------------------------------


class LossyFailover:
    """A primary that dies after it acknowledged what its replica has not heard: that stands still,
    cut off, from :meth:`begin` until after the death."""

    def __init__(self, cluster: EmbeddedCluster, key: str) -> None:
        self.cluster = cluster
        self.primary: EmbeddedServer = cluster.node_for(key)
        (self.replica,) = cluster.replicas_of(self.primary)

    async def begin(self) -> None:
        await self.cluster.wait_in_sync()
        await self.replica.pause()
        told(self.primary, "CLIENT", "KILL", "TYPE", "replica")

    async def finish(self) -> None:
        """Wait until the replica has taken over, and follows nobody."""
        await self.primary.kill()
        await self.replica.resume()
        await self.cluster.wait_until_ok()
        assert self.replica in self.cluster.primaries
        await self.primary.restart()
        await self.cluster.wait_until_ok()


async def test_trades_that_a_failover_has_lost_are_asked_for(
    cluster: EmbeddedCluster, market: MarketData
) -> None:
    (name,) = names_at(cluster, 0, 1)
    trades = a_tape(3000, late=0.05, instrument=name)
    failover = LossyFailover(cluster, f"md:{{{name}}}:t")
    dying: asyncio.Task[None] | None = None
    at, losses = 0, []
    async with asyncio.timeout(60):
        while at < len(trades):
            if at == 1000 and dying is None:
                await failover.begin()
            if at == 2000 and dying is None:
                dying = asyncio.create_task(failover.finish())
            try:
                written = await market.put_trades(trades[at : at + 50])
            except TradesMissing as missing:
                losses.append(missing)
                at = missing.after  # seqs begin at 1
            except redis.RedisError:
                pass  # the same again
            else:
                assert written.written + written.duplicates == 50
                at += 50
    assert dying is not None
    await dying
    assert losses
    assert losses[0].after <= 1000
    assert await market.ticks.reached(name) == 3000
    kept = [trade async for trade in market.ticks.between(name)]
    assert kept == trades
    assert await market.bars(name, "1m") == bars_of(trades, "1m")


async def test_reports_that_a_failover_has_lost_are_applied_again(
    cluster: EmbeddedCluster, pool: RedisPool
) -> None:
    failover = LossyFailover(cluster, Keys("A").events)
    orders = Orders(pool, account="A")
    gaps: list[Gap] = []
    heard = asyncio.Event()

    async def follow() -> None:
        async for event in orders.subscribe(after=0):
            heard.set()
            if isinstance(event, Gap):
                gaps.append(event)

    following = asyncio.create_task(follow())
    names = [f"O{number}" for number in range(4)]
    before, flow = Flow(orders, names, 5), Flow(orders, names, 20)
    for name, reports in before.reports.items():
        flow.reports[name][: len(reports)] = reports
    await before.run()
    await heard.wait()
    await failover.begin()
    await flow.run()
    seen = [event async for event in orders.replay()]
    await failover.finish()
    assert len([event async for event in orders.replay()]) < len(seen)
    again = Flow(orders, names, 20)
    again.reports = flow.reports  # the venue tells all of them once more
    await again.run()
    await again.check(Portfolio(pool, account="A"))
    await until(lambda: bool(gaps), "a gap")
    following.cancel()
    assert gaps[0].found <= gaps[0].expected  # not what is no longer kept: what was told is no more
