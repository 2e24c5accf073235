"""Whom a pool asks for its primary, and what it makes of sentinels that are gone, hang, or lie."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from time import monotonic

import pytest
import redis

from redisutils.address import Address
from redisutils.errors import CommandTimeout, ConnectFailed, PoolClosed
from redisutils.testing import EmbeddedSentinels, EmbeddedServer, FaultProxy
from redisutils.topology.plan import SentinelPlan

from .liar import Liar
from .ours import our_tasks, pool_at, until
from .servers import client_of
from .watched import address_of, plan_for, pool_for, proxied, reaching, watched

# What is shown here is ours, and the loop has no part in it.
one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])


@pytest.fixture(scope="module")
def group(server_kind: str) -> Iterator[EmbeddedSentinels]:
    """Three sentinels over a primary and a replica; no test changes who is what."""
    with EmbeddedSentinels(binary=server_kind, replicas=1) as group:
        yield group


@pytest.fixture
async def faulty(
    group: EmbeddedSentinels,
) -> AsyncIterator[tuple[list[FaultProxy], SentinelPlan]]:
    """Proxies before the sentinels, and a plan that leads through them."""
    async with proxied(group) as (proxies, plan):
        yield list(proxies.values()), plan


# --- who answers ---


async def test_any_sentinel_will_do_and_tells_of_the_others(group: EmbeddedSentinels) -> None:
    async with pool_for(group, plan_for(group, [group.addresses[1]])) as pool:
        watch = watched(pool).watch
        # Nobody is asked before somebody wants to know.
        assert not any(each.socket for each in watch._company)
        assert await pool.client.ping()
        assert watch.present is not None
        assert watch.present.address == address_of(group.primary)
        await until(lambda: len(watch.survey().answers) == 3, "answers of those it told of")
        assert [each.address for each in watch.replicas] == list(map(address_of, group.replicas))
        assert repr(pool.server).startswith("<SentinelServer mymaster: <Pool pool of mymaster")


@one_loop
async def test_a_sentinel_that_has_two_names_has_one_voice(group: EmbeddedSentinels) -> None:
    named = [("localhost", port) for _, port in group.addresses]
    async with pool_for(group, plan_for(group, named)) as pool:
        assert await pool.client.ping()
        watch = watched(pool).watch
        for _ in range(3):
            await watch._asked()
        assert [each.address.host for each in watch._company] == ["localhost"] * 3


@one_loop
async def test_names_that_do_not_resolve_are_told_and_left_out(group: EmbeddedSentinels) -> None:
    places = [("no-such-host.invalid", 26379), *group.addresses]
    async with pool_for(group, plan_for(group, places)) as pool:
        assert await pool.client.ping()
        report = await pool.health()
        assert report.status == "healthy"
        [note] = [note for note in report.notes if "no-such-host" in note]
        assert "sentinel (no-such-host.invalid:26379): the name does not resolve" in note


@one_loop
async def test_with_resp2_two_connections_do(group: EmbeddedSentinels) -> None:
    plan = plan_for(group)
    old = tuple(replace(each, protocol=2, client_name="resp2") for each in plan.sentinels)
    async with pool_for(group, replace(plan, sentinels=old)) as pool:
        assert await pool.client.ping()
        survey = watched(pool).watch.survey()
        assert {answer.address for _, answer in survey.answers} == {address_of(group.primary)}
        with client_of(group.sentinels[0].url) as admin:
            names = [each["name"] for each in admin.client_list() if int(each["sub"])]
            assert "resp2" in names
        informant = next(iter(watched(pool).watch._company))
        assert informant._ear is not informant._connection


@one_loop
async def test_one_that_hangs_holds_up_nobody(
    group: EmbeddedSentinels, faulty: tuple[list[FaultProxy], SentinelPlan]
) -> None:
    proxies, plan = faulty
    proxies[0].blackhole()
    began = monotonic()
    async with pool_for(group, plan) as pool:
        assert await pool.client.ping()
        assert monotonic() - began < 3.0
        await until(lambda: watched(pool).watch.survey().troubles, "giving it up", 8.0)
        report = await pool.health()
        assert report.status == "healthy"
        assert [note for note in report.notes if f":{proxies[0].port})" in note]


# --- nobody answers ---


async def test_without_sentinels_the_pool_goes_on_and_recovers(
    group: EmbeddedSentinels, faulty: tuple[list[FaultProxy], SentinelPlan]
) -> None:
    proxies, plan = faulty
    async with pool_for(group, plan) as pool:
        assert await pool.client.set("k", 1)
        for proxy in proxies:
            proxy.refuse()
            proxy.reset()
        with client_of(group.primary.url) as admin:
            admin.client_kill_filter(_type="normal", skipme=True)
        assert await pool.client.get("k") == b"1"  # on a new connection to the same primary
        report = await pool.health()
        assert report.status == "degraded"
        [reason] = report.reasons
        assert reason.code == "sentinels"
        assert "0 of 3 sentinels of mymaster answer" in reason
        assert all(f":{proxy.port})" in reason for proxy in proxies)
        for proxy in proxies:
            proxy.restore()
        await until(lambda: len(watched(pool).watch.survey().answers) == 3, "answers")
        assert (await pool.health()).status == "healthy"


@one_loop
async def test_a_new_pool_without_sentinels_names_each_and_recovers(
    group: EmbeddedSentinels, faulty: tuple[list[FaultProxy], SentinelPlan]
) -> None:
    proxies, plan = faulty
    for proxy in proxies:
        proxy.refuse()
    async with pool_for(group, plan, command_timeout=0.5) as pool:
        with pytest.raises(CommandTimeout, match="no sentinel knows mymaster") as caught:
            await pool.client.ping()
        for proxy in proxies:
            assert f"sentinel (127.0.0.1:{proxy.port})" in str(caught.value)
        assert str(caught.value).count("connection refused") == 1, "what is the same is said once"
        with pytest.raises(ConnectFailed, match="no sentinel knows mymaster"):
            async with pool.get(timeout=0):  # or it would wait for one
                pass
        waiting = asyncio.ensure_future(pool.client.with_timeout(10.0).ping())
        for proxy in proxies:
            proxy.restore()
        assert await waiting


@one_loop
async def test_closing_a_pool_ends_those_who_wait_for_sentinels(
    group: EmbeddedSentinels, faulty: tuple[list[FaultProxy], SentinelPlan]
) -> None:
    proxies, plan = faulty
    tasks = our_tasks()
    for proxy in proxies:
        proxy.blackhole()
    pool = await pool_for(group, plan)
    waiting = [
        asyncio.ensure_future(pool.client.ping()),
        asyncio.ensure_future(pool.get().__aenter__()),
    ]
    await until(lambda: sum(proxy.active for proxy in proxies) == 3, "connections")
    await pool.close()
    told = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(each) for each in told] == [PoolClosed, PoolClosed]
    assert our_tasks() == tasks


# --- wrong answers ---


async def test_one_that_lies_moves_nothing(group: EmbeddedSentinels) -> None:
    primary = address_of(group.primary)
    async with Liar(group.master_name, primary, epoch=0) as liar:
        liar.lists = [Address("127.0.0.1", port) for port in range(2, 9)]
        plan = plan_for(group, [liar.place, *group.addresses])
        async with pool_for(group, plan) as pool:
            assert await pool.client.set("k", 1)
            watch = watched(pool).watch
            await until(lambda: len(watch.survey().answers) == 4, "answers of all")
            for _ in range(2):
                await watch._asked()
            assert len(watch._company) == 4  # and none that only one has ever heard of
            connection = watched(pool).lane().connection
            assert connection is not None
            liar.says, liar.epoch = Address("127.0.0.1", 1), 10**9
            announced = f"{group.master_name} {primary.host} {primary.port} 127.0.0.1 1"
            assert liar.tell("+switch-master", announced) == 1
            await until(lambda: connection.held, "suspicion")
            assert await pool.client.get("k") == b"1"  # when it turned out to be nothing
            assert watched(pool).lane().connection is connection
            asked = liar.asked
            assert liar.tell("+switch-master", announced) == 1
            await until(lambda: liar.asked > asked, "a question after that")
            assert not connection.held  # who raises a false alarm is not believed again
            assert watch.present is not None
            assert watch.present.address == primary
            report = await pool.health()
            assert [reason.code for reason in report.reasons] == ["sentinels-disagree"]
            assert "127.0.0.1:1 (epoch 1000000000)" in report.reasons[0]


@one_loop
async def test_false_news_hold_nobody_back_once_they_are_taken_back(
    group: EmbeddedSentinels,
) -> None:
    async with Liar(group.master_name, address_of(group.primary), epoch=0) as liar:
        plan = plan_for(group, [liar.place, *group.addresses])
        async with pool_for(group, plan) as pool:
            assert await pool.client.set("k", 1)
            watch = watched(pool).watch
            await until(lambda: len(watch.survey().answers) == 4, "answers of all")
            news = f"slave s 127.0.0.1 1 @ {group.master_name} 127.0.0.1 {group.primary.port}"
            assert liar.tell("+failover-state-send-slaveof-noone", news.replace("my", "your"))
            assert liar.tell("+failover-state-send-slaveof-noone", news)
            await until(lambda: watch.suspicion, "suspicion")
            began = monotonic()
            assert await pool.client.get("k") == b"1"  # it is at no failover, as it says itself
            assert monotonic() - began < 1.0


@one_loop
async def test_a_replica_that_is_named_is_not_written_to(group: EmbeddedSentinels) -> None:
    async with Liar(group.master_name, address_of(group.replicas[0]), epoch=1) as liar:
        plan = SentinelPlan((reaching(*liar.place),), group.master_name)
        async with pool_for(group, plan, command_timeout=0.5) as pool:
            with pytest.raises(CommandTimeout, match="is a replica, and not the primary"):
                await pool.client.set("k", 2)
            asked = liar.asked
            await until(lambda: liar.asked > asked + 1, "questions", 5.0)
            liar.says = address_of(group.primary)
            assert await pool.client.with_timeout(10.0).set("k", 2)


# --- how it is told ---


@one_loop
async def test_a_wrong_password_for_the_sentinels(group: EmbeddedSentinels) -> None:
    wrong = tuple(reaching(*place, "wrong-word") for place in group.addresses)
    async with pool_for(group, SentinelPlan(wrong, group.master_name)) as pool:
        began = monotonic()
        with pytest.raises(ConnectFailed) as caught:
            await pool.client.ping()
        assert monotonic() - began < 3.0  # nobody waits for what nobody but us can mend
        told = str(caught.value)
        assert "Check REDIS_SENTINEL_USERNAME and REDIS_SENTINEL_PASSWORD" in told
        assert "wrong-word" not in told
        assert caught.value.fatal


@one_loop
async def test_a_name_that_no_sentinel_knows(group: EmbeddedSentinels) -> None:
    plan = replace(plan_for(group), master="yourmaster")
    async with pool_for(group, plan) as pool:
        with pytest.raises(ConnectFailed, match=r"no sentinel knows yourmaster: .*know no primary"):
            await pool.client.ping()


@one_loop
async def test_a_server_instead_of_a_sentinel(group: EmbeddedSentinels) -> None:
    sentinel = reaching(group.primary.host, group.primary.port, group.password)
    for each in (sentinel, replace(sentinel, protocol=2)):
        async with pool_for(group, SentinelPlan((each,), "mymaster")) as pool:
            with pytest.raises(ConnectFailed, match=r"is no sentinel: .*REDIS_NODES names"):
                await pool.client.ping()


@one_loop
async def test_a_wrong_password_for_the_primary(group: EmbeddedSentinels) -> None:
    async with pool_for(group, password="wrong-word") as pool:
        told = rf"mymaster \(127.0.0.1:{group.primary.port}\) refused .* Check REDIS_USERNAME"
        with pytest.raises(ConnectFailed, match=told):
            await pool.client.ping()


async def test_a_report_on_health_tells_of_all(group: EmbeddedSentinels) -> None:
    async with pool_for(group) as pool:
        report = await pool.health()
        assert report.status == "healthy", report.reasons
        first, second = report.endpoints
        assert (first.endpoint, first.role) == (
            f"mymaster ({address_of(group.primary)})",
            "primary",
        )
        assert first.server is not None
        assert (second.endpoint, second.role) == (str(address_of(group.replicas[0])), "replica")
        assert second.bytes_behind == 0
    assert (await pool.health()).reasons[0].code == "closed"


# --- its role ---


@one_loop
@pytest.mark.parametrize(
    ("rights", "refusal"),
    [("+@all -role", None), ("+@all -role -info", "neither ROLE nor INFO.*grant \\+role")],
)
async def test_of_a_user_who_may_not_ask_for_the_role(
    group: EmbeddedSentinels, rights: str, refusal: str | None
) -> None:
    primary: EmbeddedServer = group.primary
    with client_of(primary.url) as admin:
        admin.execute_command("ACL", "SETUSER", "u", "on", ">secret", "~*", *rights.split())
        try:
            async with pool_for(group, username="u", password="secret") as pool:
                if refusal is None:
                    assert await pool.client.set("k", 3)
                else:
                    with pytest.raises(ConnectFailed, match=refusal):
                        await pool.client.set("k", 3)
        finally:
            admin.acl_deluser("u")


@one_loop
async def test_a_sentinel_instead_of_a_server(group: EmbeddedSentinels) -> None:
    sentinel = group.sentinels[0]
    async with pool_at(sentinel) as pool:
        with pytest.raises(redis.ResponseError, match="is a sentinel: set REDIS_MODE=sentinel"):
            await pool.client.get("k")
        report = await pool.health()
        assert report.status == "unhealthy"
        assert report.reasons[0].code == "sentinel"
        assert await pool.client.ping()
