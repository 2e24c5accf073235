"""redis-py's locks and scripts stand on the client: errors are its classes, nested ones too."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import redis
from redis.exceptions import LockError, LockNotOwnedError, NoScriptError, ResponseError

from redisutils import ConnectionLost, Outcome, outcome_of
from redisutils.testing import EmbeddedServer, FaultProxy

from .ours import client_at


async def test_a_lock_excludes(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        inside = most = 0

        async def work() -> None:
            nonlocal inside, most
            async with client.lock("lock", timeout=10, sleep=0.001):
                inside += 1
                most = max(most, inside)
                await client.incr("n")
                inside -= 1

        await asyncio.gather(*(work() for _ in range(10)))
        assert most == 1
        assert await client.get("n") == b"10"
        assert await client.exists("lock") == 0


async def test_a_lock_is_its_owners(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        mine, theirs = client.lock("lock", timeout=10), client.lock("lock", blocking_timeout=0.01)
        assert await mine.acquire()
        assert not await theirs.acquire()
        assert await mine.owned()
        assert await mine.extend(5)
        assert 10_000 < await client.pttl("lock") <= 15_000
        assert await mine.reacquire()
        await client.set("lock", "stolen")
        with pytest.raises(LockNotOwnedError):
            await mine.release()
        with pytest.raises(LockError, match="unlocked"):
            await theirs.release()


async def test_scripts_survive_a_flush(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    async with client_at(clean_server) as client:
        script = client.register_script("return {KEYS[1], ARGV[1], 3, redis.call('GET', KEYS[1])}")
        assert await script(keys=["k"], args=["a"]) == [b"k", b"a", 3, None]
        admin.script_flush()
        assert await script(keys=["k"], args=["a"]) == [b"k", b"a", 3, None]
        with pytest.raises(NoScriptError) as failure:
            await client.evalsha("0" * 40, 0)
        assert outcome_of(failure.value) is Outcome.REJECTED


async def test_many_tasks_share_a_script(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        script = client.register_script("return redis.call('INCRBY', KEYS[1], ARGV[1])")
        answers = await asyncio.gather(*(script(keys=["n"], args=[1]) for _ in range(50)))
        assert sorted(answers) == list(range(1, 51))


async def test_an_error_in_a_script_is_redis_pys(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server, decode_responses=True) as client:
        await client.set("s", "text")
        with pytest.raises(ResponseError, match=r"WRONGTYPE|wrong kind"):
            await client.eval("return redis.call('LPUSH', KEYS[1], 1)", 1, "s")
        answer: Any = await client.eval("return {1, redis.error_reply('MINE it failed'), 'é'}", 0)
        assert answer[0] == 1
        assert isinstance(answer[1], ResponseError)
        assert answer[2] == "é"
        assert await client.echo("next") == "next"


async def test_a_script_is_never_sent_twice(
    clean_server: EmbeddedServer, proxy: FaultProxy, admin: redis.Redis
) -> None:
    async with client_at(clean_server, proxy) as client:
        script = client.register_script("return redis.call('INCR', KEYS[1])")
        await script(keys=["n"])
        proxy.swallow_replies(1, lambda request: b"EVALSHA" in request, then="reset")
        with pytest.raises(ConnectionLost) as failure:
            await script(keys=["n"])
        assert outcome_of(failure.value) is Outcome.UNKNOWN
        assert admin.get("n") == "2"


async def test_functions(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server, decode_responses=True) as client:
        code = (
            "#!lua name=mine\nredis.register_function('twice', function(k, a) return a[1] * 2 end)"
        )
        assert await client.function_load(code, replace=True) == "mine"
        assert await client.fcall("twice", 0, "21") == 42
        dumped: Any = await client.function_dump()
        assert isinstance(dumped, bytes)
        restored = client.function_restore(dumped, "REPLACE")  # type: ignore[arg-type]  # takes bytes
        assert await restored is True
        await client.function_delete("mine")
