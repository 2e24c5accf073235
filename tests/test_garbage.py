"""A peer that sends what it should not: the error names it, the connection goes, work goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator

import pytest
import redis

from redisutils import create_redis_pool
from redisutils.connection import protocol
from redisutils.errors import (
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    Outcome,
    ProtocolError,
    outcome_of,
)
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .peers import Peer, Wire, until

HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"

GARBAGE = {
    "HTTP": HTTP,
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "TLS alert": b"\x15\x03\x03\x00\x02\x02\x46",
    "zeros": b"\x00" * 64,
    "text": b"hello?\r\n",
    "number that is none": b":12x\r\n",
    "length below nothing": b"$-5\r\n",
    "length past all bounds": b"$99999999999999999999\r\n",
    "length that is none": b"$abc\r\n",
    "more elements than memory": b"*4294967295\r\n",
    "elements below nothing": b"*-7\r\n",
    "boolean that is none": b"#x\r\n",
    "a list as a key": b"%1\r\n*1\r\n+a\r\n+b\r\n",
}
garbage = pytest.mark.parametrize("data", GARBAGE.values(), ids=GARBAGE.keys())


@pytest.fixture(autouse=True)
def loop_has_no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Garbage is no bug of ours: nothing may reach the loop's exception handler."""
    with caplog.at_level(logging.ERROR, "asyncio"):
        yield
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


# -- on one connection ---------------------------------------------------------------------------


@garbage
async def test_garbage_fails_everyone_who_waits(data: bytes) -> None:
    async with Wire() as wire:
        first, second, third = wire.ask(), wire.ask(), wire.ask()
        await wire.say(b"+mine\r\n" + data)
        assert await first == b"mine"  # what came before it was in order
        for reply in (second, third):
            with pytest.raises(ProtocolError, match="the-peer:1 does not speak the Redis") as e:
                await reply
            assert e.value.outcome is Outcome.UNKNOWN
            assert isinstance(e.value, redis.ConnectionError)
        assert wire.connection.closed
        with pytest.raises(ConnectionLost, match="the-peer:1 is closed") as late:
            await wire.ask()
        assert late.value.outcome is Outcome.NOT_SENT


@garbage
async def test_garbage_within_a_batch(data: bytes) -> None:
    async with Wire() as wire:
        batch = wire.ask_many(3)
        await wire.say(b"+1\r\n" + data)
        with pytest.raises(ProtocolError, match=r"the-peer:1"):
            await batch
        assert wire.connection.closed


@garbage
async def test_garbage_nobody_asked_for(data: bytes) -> None:
    async with Wire() as wire:
        await wire.say(data)
        await until(lambda: wire.connection.closed)


@pytest.mark.parametrize(
    "extra",
    [b"+OK\r\n", b"$-1\r\n", b"_\r\n", b"#f\r\n", b":0\r\n", b"*0\r\n", b"-ERR oh\r\n", b"%0\r\n"],
)
async def test_a_reply_nobody_asked_for_ends_the_connection(extra: bytes) -> None:
    async with Wire() as wire:
        reply = wire.ask()
        await wire.say(b"+mine\r\n" + extra)
        assert await reply == b"mine"
        assert wire.connection.closed
        with pytest.raises(ConnectionLost):
            await wire.ask()


async def test_an_unasked_reply_in_pieces_never_answers_a_later_command() -> None:
    async with Wire() as wire:
        await wire.say(b"$5\r\nwr")
        assert not wire.connection.closed  # nobody can know yet what it will be
        reply = wire.ask()
        # The rest may belong to the command by all that can be seen from here. What
        # may not be is that it also leaves the connection in use, one reply ahead.
        await wire.say(b"ong\r\n")
        assert await reply == b"wrong"
        await wire.say(b"+mine\r\n")
        assert wire.connection.closed


@pytest.mark.parametrize(
    "part", [b"$10\r\nabc", b"*3\r\n:1\r\n:2\r\n", b"+O", b"$", b"", b":12\r", b"%1\r\n+a\r\n"]
)
async def test_a_truncated_reply_is_no_reply(part: bytes) -> None:
    async with Wire() as wire:
        replies = [wire.ask(), wire.ask()]
        await wire.say(part)
        wire.hang_up()
        for reply in replies:
            with pytest.raises(ConnectionLost, match=r"the-peer:1 was lost by the server") as e:
                await reply
            assert e.value.outcome is Outcome.UNKNOWN
        assert wire.connection.closed


async def test_each_caller_has_an_error_of_its_own() -> None:
    """One instance raised in many tasks would collect all of their tracebacks."""
    async with Wire() as wire:
        replies = [wire.ask() for _ in range(5)]
        await wire.say(HTTP)
        errors = await asyncio.gather(*replies, return_exceptions=True)
        assert len({id(error) for error in errors}) == 5
        assert all(isinstance(error, ProtocolError) for error in errors)


async def test_a_reply_over_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_REPLY_BYTES", 1000)
    async with Wire() as wire:
        replies = [wire.ask() for _ in range(3)]
        await wire.say(b"$500\r\n" + b"x" * 500 + b"\r\n$100000\r\n")
        assert await replies[0] == b"x" * 500
        await wire.say(b"y" * 900)
        assert not wire.connection.closed
        await wire.say(b"y" * 900)
        for reply in replies[1:]:
            with pytest.raises(ProtocolError, match=r"the-peer:1 sent a reply of more than 1,000 "):
                await reply
        assert wire.connection.closed


async def test_the_limit_is_for_a_reply_not_for_a_pipeline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_REPLY_BYTES", 1000)
    async with Wire() as wire:
        batch = wire.ask_many(10)
        for _ in range(10):
            await wire.say(b"$600\r\n" + b"x" * 600 + b"\r\n")
        assert await batch == [b"x" * 600] * 10


async def test_many_small_replies_are_not_one_big_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "MAX_REPLY_BYTES", 1000)
    async with Wire() as wire:
        for _ in range(3):
            replies = [wire.ask() for _ in range(500)]
            await wire.say(b"+PONG\r\n" * 500)
            assert await asyncio.gather(*replies) == [b"PONG"] * 500


# -- through the client --------------------------------------------------------------------------


@garbage
async def test_connecting_to_what_is_no_redis(data: bytes) -> None:
    async with (
        Peer(lambda command: data, polite=False) as peer,
        create_redis_pool(url=peer.url, command_timeout=5, connection_timeout=5) as pool,
    ):
        with pytest.raises(redis.ConnectionError, match=f"127.0.0.1:{peer.port}") as e:
            await pool.client.get("key")
        assert isinstance(e.value, ConnectFailed)
        assert e.value.fatal
        assert e.value.outcome is Outcome.NOT_SENT
        with pytest.raises(ConnectFailed, match=f"127.0.0.1:{peer.port}"):
            _ = await pool.get()
        assert peer.accepted == 2  # trying again cannot help
        await until(lambda: not peer.open)
        assert standalone(pool).pool.in_use == 0


@pytest.mark.parametrize("banner", [HTTP, GARBAGE["SSH"], b"+OK\r\n"], ids=["HTTP", "SSH", "OK"])
async def test_a_peer_that_speaks_first(banner: bytes) -> None:
    async with (
        Peer(lambda command: b"+OK\r\n", polite=False, banner=banner) as peer,
        create_redis_pool(url=peer.url, command_timeout=5, max_retries=0) as pool,
    ):
        with pytest.raises(ConnectFailed, match=f"127.0.0.1:{peer.port}"):
            await pool.client.get("key")
        await until(lambda: not peer.open)


async def test_a_web_server_says_so() -> None:
    async with (
        Peer(lambda command: HTTP, polite=False) as peer,
        create_redis_pool(url=peer.url) as pool,
    ):
        with pytest.raises(ConnectFailed) as e:
            await pool.client.get("key")
        assert str(e.value).startswith(f"127.0.0.1:{peer.port} does not speak the Redis protocol")
        assert 'got "H"' in str(e.value)


@garbage
async def test_garbage_in_mid_life_then_a_new_connection(data: bytes) -> None:
    spoilt = False

    def answer(command: list[bytes]) -> bytes:
        nonlocal spoilt
        if command[0] == b"INCR" and not spoilt:
            spoilt = True
            return data
        return b"+%b\r\n" % command[-1]

    async with Peer(answer) as peer, create_redis_pool(url=peer.url) as pool:
        client = pool.client
        assert await client.get("before") == b"before"
        with pytest.raises(ProtocolError, match=f"127.0.0.1:{peer.port} does not speak") as e:
            await client.execute_command("INCR", "counter")
        assert e.value.outcome is Outcome.UNKNOWN  # it may well have been executed
        assert await client.get("after") == b"after"
        assert [c[0] for c in peer.heard].count(b"INCR") == 1  # and was not sent again
        assert peer.accepted == 2
        await until(lambda: len(peer.open) == 1)
        assert pool.status().size == 1
        assert pool.metrics().errors["ProtocolError"] >= 1


async def test_an_unasked_reply_in_idle_time_then_a_new_connection() -> None:
    async with (
        Peer(lambda command: b"+%b\r\n" % command[-1]) as peer,
        create_redis_pool(url=peer.url) as pool,
    ):
        assert await pool.client.get("a") == b"a"
        peer.say(b"+stray\r\n")
        await until(lambda: not peer.open)
        assert await asyncio.gather(*(pool.client.get(f"k{i}") for i in range(20))) == [
            b"k%d" % i for i in range(20)
        ]
        assert peer.accepted == 2


async def test_an_unasked_reply_behind_a_real_one_never_meets_the_next_command() -> None:
    """The next command is issued by a task woken in the very read that holds the stray reply."""
    async with (
        Peer(lambda command: b"+%b\r\n" % command[-1]) as peer,
        create_redis_pool(url=peer.url) as pool,
    ):
        plain = peer.answer
        peer.answer = lambda command: b"+a\r\n+stray\r\n"
        assert await pool.client.get("a") == b"a"
        peer.answer = plain
        assert await pool.client.get("b") != b"a"


async def test_an_idle_connection_that_was_spoilt_is_not_handed_out() -> None:
    async with (
        Peer(lambda command: b"+%b\r\n" % command[-1]) as peer,
        create_redis_pool(url=peer.url) as pool,
    ):
        async with pool.get() as conn:
            assert await conn.execute("GET", "a") == b"a"
        peer.say(b"+stray\r\n")
        await until(lambda: not peer.open)
        async with pool.get() as conn:
            assert await conn.execute("GET", "b") == b"b"
        assert peer.accepted == 2


async def test_a_checkout_met_by_garbage_goes_and_leaves_its_place() -> None:
    async with (
        Peer(lambda command: HTTP) as peer,
        create_redis_pool(url=peer.url, pool_max_size=1) as pool,
    ):
        for number in (1, 2):
            async with pool.get() as conn:
                with pytest.raises(ProtocolError, match=f"127.0.0.1:{peer.port}"):
                    await conn.execute("GET", "a")
                with pytest.raises(ConnectionLost):
                    await conn.execute("GET", "a")
            assert peer.accepted == number
            assert pool.status().size == 0
            assert standalone(pool).pool.in_use == 0


async def test_a_real_reply_over_the_limit(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with create_redis_pool(url=clean_server.url) as pool:
        await pool.client.set("big", b"x" * 4_000_000)
        await pool.client.set("small", b"y")
        monkeypatch.setattr(protocol, "MAX_REPLY_BYTES", 1_000_000)
        place = f"{clean_server.host}:{clean_server.port}"
        with pytest.raises(ProtocolError, match=f"{place} sent a reply of more than 1,000,000 byt"):
            await pool.client.with_timeout(5).execute_command("GETDEL", "big")
        assert await pool.client.get("small") == b"y"


async def test_a_stream_cut_within_a_reply(proxy: FaultProxy, server: EmbeddedServer) -> None:
    """What comes after a cut is the start of a new stream, not the rest of the old reply."""
    async with create_redis_pool(
        host=proxy.host, port=proxy.port, password=server.password, retry_delay_ms=1
    ) as pool:
        await pool.client.set("key", b"v" * 1000)
        await pool.client.set("n", 1)
        proxy.to_client.cut_after(500)
        assert await pool.client.get("key") == b"v" * 1000  # read-only: asked again
        proxy.to_client.cut_after(2)
        with pytest.raises(ConnectionLost) as e:
            await pool.client.incr("n")
        assert outcome_of(e.value) is Outcome.UNKNOWN
        assert await pool.client.get("n") == b"2"


async def test_a_push_that_is_no_text_for_nobody() -> None:
    """Whoever asked for text has gone, and what he had asked for still comes."""
    async with Wire() as wire:
        wire.connection.decode_pushes = True
        await wire.say(b">1\r\n$1\r\n\xff\r\n")
        assert wire.connection.closed
        with pytest.raises(ConnectionLost, match="closed"):
            await wire.ask()


async def test_nobody_waits_any_more_and_the_answer_comes_at_last() -> None:
    async with Wire() as wire:
        with pytest.raises(CommandTimeout):
            await wire.ask(timeout=0.01)
        later = wire.ask()
        await wire.say(b"+late\r\n+mine\r\n")
        assert await later == b"mine"
