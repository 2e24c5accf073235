"""Pipelines and transactions: contiguous, honest when replies are lost, on the right connection."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import pytest
import redis
from redis.exceptions import ExecAbortError, NoPermissionError, ResponseError, WatchError

from redisutils import ConnectionLost, NotSharable, Outcome, PoolTimeout, outcome_of
from redisutils.testing import EmbeddedServer, FaultProxy

from .ours import client_at, clients_named, pool_at, until


@pytest.mark.parametrize("transaction", [False, True])
async def test_replies_in_order_and_shaped(clean_server: EmbeddedServer, transaction: bool) -> None:
    async with client_at(clean_server, decode_responses=True) as client:
        async with client.pipeline(transaction=transaction) as pipe:
            todo: Any = pipe
            todo.set("k", "é").incr("n", 5).hset("h", mapping={"a": 1}).hgetall("h").get("k")
            todo.expire("k", 10).exists("none").zadd("z", {"m": 1}).zrange(
                "z", 0, -1, withscores=True
            )
            answers = await pipe.execute()
        assert answers == [True, 5, 1, {"a": "1"}, "é", True, 0, 1, [("m", 1.0)]]
        assert await pipe.execute() == []  # emptied


async def test_a_transaction_is_contiguous(clean_server: EmbeddedServer) -> None:
    """Each doubles what it has just set; anything in between would be seen."""

    async def work(number: int) -> list[Any]:
        pipe: Any = client.pipeline()
        pipe.set("k", number).incrby("k", 1).get("k")
        answers: list[Any] = await pipe.execute()
        return answers

    async with client_at(clean_server) as client:
        answers = await asyncio.gather(*(work(number) for number in range(100)))
        assert answers == [[True, n + 1, b"%d" % (n + 1)] for n in range(100)]


async def test_without_watch_it_shares_the_connection(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with client_at(clean_server, client_name="piped") as client:
        for transaction in (True, False):
            pipe = client.pipeline(transaction=transaction)
            pipe.client_id()  # type: ignore[unused-awaitable]  # queued
            assert await pipe.execute() == [await client.client_id()]
        assert len(clients_named(admin, "piped")) == 1


async def test_errors_in_place(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        for transaction in (True, False):
            pipe: Any = client.pipeline(transaction=transaction)
            pipe.set("s", "text").lpush("s", 1).get("s")
            answers = await pipe.execute(raise_on_error=False)
            assert [answers[0], answers[2]] == [True, b"text"]
            assert isinstance(answers[1], ResponseError)
            assert outcome_of(answers[1]) is Outcome.REJECTED
            pipe.set("s", "text").lpush("s", 1).get("s")
            with pytest.raises(
                ResponseError, match=r"Command # 2 \(LPUSH s 1\).*WRONGTYPE|wrong kind"
            ):
                await pipe.execute()


async def test_a_command_that_cannot_be_queued_aborts_the_transaction(
    clean_server: EmbeddedServer,
) -> None:
    async with client_at(clean_server) as client:
        pipe: Any = client.pipeline()
        pipe.set("k", "v").execute_command("GET").set("k2", "v")
        with pytest.raises(ResponseError, match="Command # 2") as failure:
            await pipe.execute()
        assert isinstance(failure.value.__cause__, ExecAbortError)
        assert outcome_of(failure.value) is Outcome.REJECTED
        assert await client.exists("k", "k2") == 0


async def test_an_argument_that_cannot_be_sent(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        pipe: Any = client.pipeline()
        pipe.set("k", "v").set("k", None)
        with pytest.raises(redis.DataError) as failure:
            await pipe.execute()
        assert outcome_of(failure.value) is Outcome.NOT_SENT
        assert await client.get("k") is None


async def test_pipelines_and_commands_of_one_caller_keep_their_order(
    clean_server: EmbeddedServer,
) -> None:
    async with client_at(clean_server) as client:
        pipe: Any = client.pipeline(transaction=False)
        pipe.rpush("l", 2).rpush("l", 3)
        await asyncio.gather(client.rpush("l", 1), pipe.execute(), client.rpush("l", 4))
        assert await client.lrange("l", 0, -1) == [b"1", b"2", b"3", b"4"]


# --- WATCH ---


async def test_a_watched_key_that_changes_is_a_watch_error(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with client_at(clean_server) as client:
        async with client.pipeline() as pipe:
            todo: Any = pipe
            await pipe.watch("k")
            assert await todo.get("k") is None  # at once
            admin.set("k", "theirs")
            todo.multi()
            todo.set("k", "ours")
            with pytest.raises(WatchError) as failure:
                await pipe.execute()
            assert outcome_of(failure.value) is Outcome.REJECTED
            # Usable again, and not watching any more.
            todo.set("k", "ours")
            assert await pipe.execute() == [True]
        assert await client.get("k") == b"ours"


async def test_watching_undisturbed(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client, client.pipeline() as pipe:
        todo: Any = pipe
        await pipe.watch("k")
        assert pipe.watching
        assert await todo.incr("n") == 1
        todo.multi()
        todo.set("k", "v").get("n")
        assert await pipe.execute() == [True, b"1"]
        assert not pipe.watching


async def test_unwatch_and_reset_undo_it(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    async with pool_at(clean_server, pool_max_size=2) as pool:
        pipe: Any = pool.client.pipeline()
        await pipe.watch("k")
        await pipe.unwatch()
        admin.set("k", "theirs")
        pipe.set("k", "ours")
        assert await pipe.execute() == [True]
        await pipe.watch("k")
        await pipe.reset()
        admin.set("k", "theirs")
        # The next to get that connection is not watching.
        async with pool.get() as conn:
            await conn.execute("MULTI")
            await conn.execute("SET", "k", "third")
            assert await conn.execute("EXEC") == [b"OK"]
        assert pool.status().size == 1  # one and the same; the lane was never needed


async def test_transaction_helper_tries_again(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with client_at(clean_server) as client:
        await client.set("n", 1)
        disturbances = iter([10, 20])

        async def double(pipe: Any) -> int:
            value = int(await pipe.get("n"))
            for theirs in disturbances:
                admin.set("n", theirs)
                break
            pipe.multi()
            pipe.set("n", value * 2)
            return value

        assert await client.transaction(double, "n", value_from_callable=True) == 20
        assert await client.get("n") == b"40"


async def test_discard_forgets_what_was_queued(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=1) as pool, pool.get() as conn:
        await conn.execute("MULTI")
        await conn.execute("SET", "k", "v")
        await conn.execute("DISCARD")
        assert await conn.execute("GET", "k") is None


async def test_watch_on_a_connection_of_ones_own_uses_it(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with pool_at(clean_server, pool_max_size=1) as pool, pool.get() as conn:
        async with conn.pipeline() as pipe:
            todo: Any = pipe
            await pipe.watch("k")
            admin.set("k", "theirs")
            todo.multi()
            todo.set("k", "ours")
            with pytest.raises(WatchError):
                await pipe.execute()
            await pipe.watch("k")
        admin.set("k", "theirs again")
        await conn.execute("MULTI")  # the pipeline has left no watch
        await conn.execute("GET", "k")
        assert await conn.execute("EXEC") == [b"theirs again"]


async def test_a_pool_of_one_says_why_watch_cannot_have_a_connection(
    clean_server: EmbeddedServer,
) -> None:
    async with pool_at(clean_server, pool_max_size=1, pool_timeout=0.02) as pool:
        await pool.client.ping()
        with pytest.raises(
            PoolTimeout, match=r"all 1 are in use \(1 of them by lanes: 'default'\)"
        ):
            await pool.client.pipeline().watch("k")


async def test_the_connection_of_a_watch_is_not_leaked(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server, pool_max_size=2, pool_timeout=0.5) as pool:
        await pool.client.ping()
        for _ in range(5):
            async with pool.client.pipeline() as pipe:
                await pipe.watch("k")
        for _ in range(5):
            pipe = pool.client.pipeline()
            task = asyncio.ensure_future(pipe.watch("k"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            await pipe.reset()
        async with pool.get(timeout=0):  # else there would be none
            assert pool.status().size == 2


# --- when the network fails ---


@pytest.mark.parametrize("watch", [True, False])
async def test_a_lost_reply_of_exec_is_unknown_and_not_done_again(
    clean_server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis, watch: bool
) -> None:
    calls = 0

    async def buy(pipe: Any) -> None:
        nonlocal calls
        calls += 1
        pipe.multi()
        pipe.incr("position")

    async with client_at(clean_server, proxy, socket_timeout=5) as client:
        proxy.swallow_replies(1, lambda request: b"EXEC" in request, then="reset")
        with pytest.raises(ConnectionLost) as failure:
            await client.transaction(buy, *(["price"] if watch else []))
        assert not isinstance(failure.value, WatchError)
        assert outcome_of(failure.value) is Outcome.UNKNOWN
        assert (calls, proxy.swallowed) == (1, 1)
        assert admin.get("position") == "1"
        await client.transaction(buy, "price")  # and it works again
        assert admin.get("position") == "2"


async def test_a_transaction_that_may_be_repeated_is(
    clean_server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis
) -> None:
    async with client_at(clean_server, proxy) as client:
        proxy.swallow_replies(1, lambda request: b"EXEC" in request, then="reset")
        pipe: Any = client.pipeline()
        pipe.set("k", "v").get("k")
        assert await pipe.execute() == [True, b"v"]
        assert proxy.swallowed == 1


async def test_a_connection_lost_while_watching_is_a_watch_error(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """Nothing was executed, so doing it all again is right: what WatchError is for."""
    async with client_at(clean_server, client_name="watcher") as client, client.pipeline() as pipe:
        todo: Any = pipe
        await pipe.watch("k")
        lease = pipe._lease
        assert lease is not None
        connection = lease.item
        for entry in clients_named(admin, "watcher"):
            admin.client_kill_filter(_id=entry["id"])
        await until(lambda: connection.closed)
        todo.multi()
        todo.incr("n")
        with pytest.raises(WatchError) as failure:
            await pipe.execute()
        assert "connection" in str(failure.value)
        await pipe.watch("k")
        todo.multi()
        todo.incr("n")
        assert await pipe.execute() == [1]


@pytest.mark.parametrize("where", ["read", "exec", "cancelled"])
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_server_that_says_nothing_while_watching_costs_one_budget(
    proxy: FaultProxy, clean_server: EmbeddedServer, where: str
) -> None:
    """Undoing the watch takes no second one."""
    async with pool_at(clean_server, proxy, command_timeout=0.3) as pool:
        lease: Any = await pool.get()
        for client in (pool.client, lease):
            pipe: Any = client.pipeline()
            await pipe.watch("k")
            proxy.stall()
            begin = monotonic()
            if where == "read":
                with pytest.raises(redis.WatchError):
                    await pipe.get("k")
            elif where == "exec":
                pipe.multi()
                pipe.set("k", 1)
                with pytest.raises(redis.TimeoutError):
                    await pipe.execute()
            else:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(pipe.get("k"), 0.1)
                await pipe.reset()
            assert monotonic() - begin < 0.3 + 0.25
            proxy.restore()
        lease.release()


async def test_watch_again_after_its_connection_was_lost(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with client_at(clean_server, proxy) as client:
        pipe = client.pipeline()
        proxy.swallow_replies(1, lambda request: b"WATCH" in request, then="reset")
        with pytest.raises(ConnectionLost):
            await pipe.watch("k")
        await pipe.watch("k")
        assert pipe.watching
        await pipe.reset()


async def test_cancelling_an_execute_disturbs_nobody(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with client_at(clean_server, proxy) as client:
        await client.ping()
        proxy.to_client.latency = 0.02
        pipe: Any = client.pipeline()
        pipe.incr("n").incr("n")
        task = asyncio.create_task(pipe.execute())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await client.incr("n") in (1, 3)
        assert await client.echo("mine") == b"mine"
        assert proxy.accepted == 1


# --- scripts, blocking commands, decoding ---


async def test_scripts_are_loaded_before(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    async with client_at(clean_server) as client:
        double = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1] * 2)")
        for transaction in (True, False):
            admin.script_flush()
            pipe: Any = client.pipeline(transaction=transaction)
            pipe.set("n", 1)
            await double(keys=["n"], args=[4], client=pipe)
            pipe.get("n")
            assert await pipe.execute() == [True, 9, b"9"]


async def test_blocking_commands_take_a_connection_of_their_own(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with client_at(clean_server, client_name="blocked", socket_timeout=0.3) as client:
        await client.ping()
        pipe: Any = client.pipeline(transaction=False)
        pipe.set("before", 1).blpop("list", 0).set("after", 1)
        waiting = asyncio.create_task(pipe.execute())
        await until(lambda: admin.get("before") and admin.info("clients")["blocked_clients"] == 1)
        assert await client.get("after") is None  # answered at once, beside it
        admin.rpush("list", "item")
        assert await waiting == [True, (b"list", b"item"), True]


async def test_a_transaction_does_not_block(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        pipe: Any = client.pipeline()
        pipe.blpop("list", 0).get("k")
        assert await pipe.execute() == [None, None]


async def test_select_in_a_pipeline_stays_there(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        pipe: Any = client.pipeline()
        pipe.select(3).set("k", "in 3")
        assert await pipe.execute() == [True, True]
        assert await client.get("k") is None
        pipe.set("k", "in 0")
        await pipe.execute()
        assert await client.get("k") == b"in 0"
        with pytest.raises(NotSharable):
            await client.select(3)


@pytest.mark.parametrize("transaction", [False, True])
async def test_what_is_never_decoded_stays_bytes(
    clean_server: EmbeddedServer, transaction: bool
) -> None:
    async with client_at(clean_server, decode_responses=True) as client:
        await client.set("raw", b"\xff")
        await client.set("text", "é")
        await client.hset("h", "ü", "ö")
        pipe: Any = client.pipeline(transaction=transaction)
        pipe.get("text").dump("raw").hgetall("h").lrange("none", 0, -1)
        text, dumped, mapping, nothing = await pipe.execute()
        assert (text, mapping, nothing) == ("é", {"ü": "ö"}, [])
        assert isinstance(dumped, bytes)
        assert await client.restore("copy", 0, dumped) == "OK"


async def test_commands_that_ran_after_a_refused_multi_are_not_told_rejected(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    admin.acl_setuser(
        "single", enabled=True, passwords=["+secret"], commands=["+@all", "-multi"], keys=["*"]
    )
    try:
        async with client_at(clean_server, username="single", password="secret") as client:
            pipe: Any = client.pipeline()
            pipe.set("a", 1).set("b", 2)
            with pytest.raises(NoPermissionError, match="executed one by one") as caught:
                await pipe.execute()
            assert outcome_of(caught.value) is Outcome.UNKNOWN
            assert admin.mget("a", "b") == ["1", "2"]
    finally:
        admin.acl_deluser("single")


async def test_metrics_count_each_command(clean_server: EmbeddedServer) -> None:
    async with pool_at(clean_server) as pool:
        await pool.client.ping()
        before = pool.metrics()
        pipe: Any = pool.client.pipeline(transaction=False)
        for _ in range(10):
            pipe.incr("n")
        await pipe.execute()
        after = pool.metrics()
        assert after.commands - before.commands == 10
        assert after.latency.count - before.latency.count == 1
