"""A peer that means harm: announced sizes, depth, nonsense errors, and all of it in a handshake.

Each ends in one clear error for whom it concerns, and costs neither memory nor the event loop more
than what was really sent.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from redis.exceptions import ResponseError

from redisutils import create_redis_pool
from redisutils.connection import protocol
from redisutils.connection.owner import Owner
from redisutils.connection.protocol import Connection
from redisutils.connection.reply import Reply
from redisutils.errors import ConnectFailed, Outcome, ProtocolError, outcome_of
from tests.ours import standalone

from .peers import Peer, Wire, until

STATM = Path("/proc/self/statm")


@pytest.fixture(autouse=True)
def loop_has_no_complaints(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.ERROR, "asyncio"):
        yield
    assert [r.getMessage() for r in caplog.records if r.name == "asyncio"] == []


# -- sizes ---------------------------------------------------------------------------------------

REFUSED_SIZES = {
    "more elements than are counted": b"*4294967296\r\n",
    "a set of more": b"~9223372036854775807\r\n",
    "pairs that overflow": b"%9223372036854775807\r\n",
    "pairs that overflow when doubled": b"%4611686018427387905\r\n",
    "a push of more": b">9223372036854775807\r\n",
    "past 64 bits": b"*99999999999999999999999\r\n",
    "a string past 64 bits": b"$99999999999999999999999\r\n",
    "a string below nothing": b"$-2\r\n",
    "an array below nothing": b"*-2\r\n",
    "a map below nothing": b"%-2\r\n",
    "a set below nothing": b"~-2\r\n",
    "a push below nothing": b">-2\r\n",
    "a leading zero": b"$05\r\nhello\r\n",
    "a space": b"$ 5\r\nhello\r\n",
    "a plus": b"$+5\r\nhello\r\n",
    "no digits": b"*\r\n",
    "streamed": b"$?\r\n",
    "hexadecimal": b"$0x5\r\nhello\r\n",
    "NUL in the length": b"$5\x00\r\nhello\r\n",
}
OTHER_NONSENSE = {
    "integer past 64 bits": b":9223372036854775808\r\n",
    "integer of nothing": b":\r\n",
    "double of nothing": b",\r\n",
    "double past all": b",1e999\r\n",
    "hexadecimal double": b",0x10\r\n",
    "big number of letters": b"(12a\r\n",
    "null with a word": b"_x\r\n",
    "boolean of two": b"#tt\r\n",
    "verbatim without a kind": b"=3\r\nabc\r\n\r\n\r\n",
    "verbatim without its colon": b"=7\r\ntxt;abc\r\n",
    "line feed in a line": b"+a\nb\r\n",
    "carriage return in a line": b"+a\rb\r\n",
    "empty line": b"\r\n",
    "NUL": b"\x00\r\n",
    "blob error": b"!5\r\nERR x\r\n",
    "streamed string": b";4\r\n",
    "end of a stream": b".\r\n",
    "lower-case": b"s5\r\nhello\r\n",
    "SMTP": b"220 mail.example ESMTP\r\n",
    "HTTP 2": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "noise": bytes(range(128, 256)),
    "map as a key": b"%1\r\n%0\r\n:1\r\n",
    "set as a key": b"%1\r\n~0\r\n:1\r\n",
}
DEEP = {
    "arrays": b"*1\r\n" * 2_000,
    "maps": b"%1\r\n+k\r\n" * 2_000,
    "sets": b"~1\r\n" * 2_000,
    "pushes": b">1\r\n" * 2_000,
    "arrays in pushes": b">2\r\n+a\r\n" + b"*1\r\n" * 2_000,
}
nonsense = REFUSED_SIZES | OTHER_NONSENSE | DEEP
each_nonsense = pytest.mark.parametrize("data", nonsense.values(), ids=nonsense.keys())


@each_nonsense
async def test_nonsense_is_one_clear_error(data: bytes) -> None:
    async with Wire() as wire:
        first, second, batch = wire.ask(), wire.ask(), wire.ask_many(2)
        await wire.say(b"+mine\r\n" + data)
        assert await first == b"mine"
        for future in (second, batch):
            with pytest.raises(ProtocolError, match="the-peer:1 does not speak the Redis") as e:
                await future
            assert e.value.outcome is Outcome.UNKNOWN
            assert len(str(e.value)) < 300
        assert wire.connection.closed


@pytest.mark.parametrize(
    "head", [b"$1000000000\r\n", b"=1000000000\r\n", b"%1000000000\r\n", b"*1\r\n$1000000000\r\n"]
)
async def test_an_announced_size_takes_no_memory(head: bytes) -> None:
    async with Wire() as wire:
        reply = wire.ask()
        await wire.heard(1)
        tracemalloc.start()
        try:
            await wire.say(head)
            for _ in range(20):
                await wire.say(b":1\r\n")
            assert tracemalloc.get_traced_memory()[1] < 1_000_000
        finally:
            tracemalloc.stop()
        assert not reply.done()
        assert not wire.connection.closed


@pytest.mark.skipif(not STATM.exists(), reason="no /proc here")
@pytest.mark.parametrize("head", [b"*20000000\r\n", b"~20000000\r\n", b"*1\r\n*20000000\r\n"])
async def test_an_announced_array_takes_addresses_but_no_memory(head: bytes) -> None:
    """The parser asks for 160 MB, of which the system gives what is touched."""
    async with Wire() as wire:
        reply = wire.ask()
        await wire.heard(1)
        before = int(STATM.read_text().split()[1])
        await wire.say(head)
        for _ in range(20):
            await wire.say(b":1\r\n")
        pages = int(STATM.read_text().split()[1]) - before
        assert pages * os.sysconf("SC_PAGE_SIZE") < 40_000_000
        assert not reply.done()


@pytest.mark.parametrize(
    "head", [b"*100000\r\n", b"%100000\r\n", b"~100000\r\n", b"*1\r\n%1\r\n+key\r\n*100000\r\n"]
)
async def test_the_limit_holds_for_what_is_within(
    head: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "MAX_REPLY_BYTES", 2000)
    async with Wire() as wire:
        reply = wire.ask()
        await wire.say(head)
        sent = len(head)
        while sent <= 2000:
            assert not wire.connection.closed
            await wire.say(b":12345\r\n" * 10)
            sent += 80
        with pytest.raises(ProtocolError, match="a reply of more than 2,000 bytes"):
            await reply


async def test_pushes_do_not_count_towards_the_reply_that_is_awaited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A blocking command may wait for days while invalidations come in."""
    monkeypatch.setattr(protocol, "MAX_REPLY_BYTES", 1000)
    async with Wire() as wire:
        reply = wire.ask()
        for _ in range(100):
            await wire.say(b">2\r\n+invalidate\r\n*1\r\n$5\r\nabcde\r\n")
        await wire.say(b"+mine\r\n")
        assert await reply == b"mine"


# -- errors --------------------------------------------------------------------------------------

ODD_ERRORS = {
    "empty": b"-\r\n",
    "space": b"- \r\n",
    "MOVED to nowhere": b"-MOVED\r\n",
    "MOVED to a word": b"-MOVED nowhere\r\n",
    "MOVED to no port": b"-MOVED 1 host:port\r\n",
    "MOVED too far": b"-MOVED 1 2 3 4\r\n",
    "ASK of nothing": b"-ASK\r\n",
    "ASK for a word": b"-ASK x y\r\n",
    "binary": b"-\xff\xfe\x00\r\n",
    "long": b"-ERR " + b"x" * 100_000 + b"\r\n",
}


@pytest.mark.parametrize("data", ODD_ERRORS.values(), ids=ODD_ERRORS.keys())
async def test_an_odd_error_is_an_error_of_its_command_only(data: bytes) -> None:
    async with Wire() as wire:
        alone, batch, nested, after = wire.ask(), wire.ask_many(2), wire.ask(), wire.ask()
        await wire.say(data + b":1\r\n" + data + b"*2\r\n" + data + b":1\r\n" + b"+after\r\n")
        with pytest.raises(ResponseError) as e:
            await alone
        assert outcome_of(e.value) is Outcome.REJECTED
        one, two = await batch
        assert one == 1
        assert isinstance(two, ResponseError)
        within, one = await nested
        assert isinstance(within, ResponseError)
        assert one == 1
        assert await after == b"after"
        assert not wire.connection.closed


class Judge(Owner[Connection]):
    """Notes what it is told of refusals."""

    def __init__(self) -> None:
        self.codes: list[str] = []

    def on_rejected(self, connection: Connection, reply: Reply, value: Any, code: str) -> bool:
        self.codes.append(code)
        return False


async def test_an_error_within_a_push_is_nobodys() -> None:
    """It says nothing of the reply behind it: whether that may be repeated hangs on its own."""
    push = b">3\r\n+news\r\n-LOADING not yours\r\n*1\r\n-TRYAGAIN nor this\r\n"
    async with Wire() as wire:
        judge = wire.connection.owner = Judge()
        alone, batch = wire.ask(), wire.ask_many(2)
        await wire.say(
            push + b"-ERR mine\r\n" + b"-ERR first\r\n" + push + b"-WRONGTYPE second\r\n"
        )
        with pytest.raises(ResponseError, match="mine"):
            await alone
        first, second = await batch
        assert str(first) == "first"
        assert "second" in str(second)
        assert judge.codes == ["ERR", "ERR"]
        assert sum(wire.metrics.errors.values()) == 3


async def test_a_batch_of_which_one_was_executed_was_not_refused() -> None:
    """That its answer is no text does not make it undone: the batch must not be repeated."""
    async with Wire() as wire:
        judge = wire.connection.owner = Judge()
        batch = wire.ask_many(2, decode=True)
        await wire.say(b"$1\r\n\xff\r\n-TRYAGAIN later\r\n")
        first, second = await batch
        assert outcome_of(first) is Outcome.EXECUTED
        assert outcome_of(second) is Outcome.REJECTED
        assert judge.codes == []


# -- handshakes ----------------------------------------------------------------------------------

HELLO = b"%1\r\n$5\r\nproto\r\n:3\r\n"
NO_HELLOS = {
    "OK": b"+OK\r\n",
    "text": b"$5\r\nhello\r\n",
    "number": b":1\r\n",
    "null": b"_\r\n",
    "old null": b"$-1\r\n",
    "boolean": b"#t\r\n",
    "double": b",nan\r\n",
    "big number": b"(1" + b"0" * 30 + b"\r\n",
    "array": b"*2\r\n+server\r\n+redis\r\n",
    "set": b"~1\r\n+redis\r\n",
    "nested": b"*1\r\n" * 50 + b"*0\r\n",
    "odd error": b"-MOVED nowhere\r\n",
    "empty error": b"-\r\n",
    "long error": b"-ERR " + b"x" * 100_000 + b"\r\n",
    "long text": b"$100000\r\n" + b"x" * 100_000 + b"\r\n",
}


@pytest.mark.parametrize(
    "data", [*NO_HELLOS.values(), *nonsense.values()], ids=[*NO_HELLOS, *nonsense]
)
@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_what_is_no_answer_to_hello(data: bytes) -> None:
    async with (
        Peer(lambda command: data, polite=False) as peer,
        create_redis_pool(
            url=peer.url, command_timeout=5, connection_timeout=5, max_retries=0
        ) as pool,
    ):
        with pytest.raises(ConnectFailed, match=f"127.0.0.1:{peer.port}") as e:
            await pool.client.get("key")
        assert e.value.outcome is Outcome.NOT_SENT
        assert len(str(e.value)) < 1000
        await until(lambda: not peer.open)
        assert standalone(pool).pool.in_use == 0


@pytest.mark.parametrize(
    "hello",
    [
        b">2\r\n+news\r\n+first\r\n" + HELLO,
        b"%0\r\n",
        b"%3\r\n:1\r\n:2\r\n_\r\n*1\r\n%0\r\n-ERR odd\r\n-ERR odder\r\n",
        b"%2\r\n$2\r\n\xff\xfe\r\n$1\r\n\xff\r\n$5\r\nproto\r\n,nan\r\n",
    ],
    ids=["a push before", "nothing said", "odd keys", "no text"],
)
async def test_an_odd_hello_does(hello: bytes) -> None:
    def answer(command: list[bytes]) -> bytes:
        return hello if command[0] == b"HELLO" else b"+OK\r\n"

    async with Peer(answer, polite=False) as peer, create_redis_pool(url=peer.url) as pool:
        assert await pool.client.get("key") == b"OK"


async def test_more_replies_to_a_handshake_than_were_asked_for() -> None:
    """None of them meets the first command."""
    strays = 2

    def answer(command: list[bytes]) -> bytes:
        nonlocal strays
        if command[0] == b"HELLO":
            return HELLO
        if command[-2] == b"LIB-VER" and strays:
            strays -= 1
            return b"+OK\r\n+stray\r\n"
        return b"+%b\r\n" % command[-1]

    async with (
        Peer(answer, polite=False) as peer,
        create_redis_pool(url=peer.url, retry_delay_ms=1) as pool,
    ):
        answers = await asyncio.gather(
            *(pool.client.get(f"k{i}") for i in range(20)), return_exceptions=True
        )
        for i, got in enumerate(answers):
            assert got == b"k%d" % i or isinstance(got, (ConnectFailed, ProtocolError))
        assert await pool.client.get("mine") == b"mine"
        await until(lambda: len(peer.open) == 1)


@pytest.mark.parametrize("command", ["SELECT", "LIB-NAME", "LIB-VER"])
@pytest.mark.parametrize("data", [b"-ERR no\r\n", b"+OK\r\nHTTP/1.1\r\n", b":12x\r\n", None])
async def test_a_handshake_that_breaks_in_its_middle(command: str, data: bytes | None) -> None:
    broken = True

    def answer(asked: list[bytes]) -> bytes | None:
        if broken and command.encode() in asked:
            return data
        return HELLO if asked[0] == b"HELLO" else b"+OK\r\n"

    async with (
        Peer(answer, polite=False) as peer,
        create_redis_pool(url=peer.url + "/3", max_retries=0) as pool,
    ):
        if command != "SELECT" and data == b"-ERR no\r\n":  # one can do without
            assert await pool.client.get("key") == b"OK"
            return
        with pytest.raises((ConnectFailed, ProtocolError), match=re.escape(f"{peer.port}")):
            await pool.client.get("key")
        await until(lambda: not peer.open)
        broken = False
        assert await pool.client.get("key") == b"OK"
        assert pool.status().size == 1


# -- the pool goes on ----------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["alone", "pipeline", "checkout"])
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_each_nonsense_costs_one_connection(where: str) -> None:
    data = b""

    def answer(command: list[bytes]) -> bytes:
        nonlocal data
        if command[0] == b"INCR":
            data, said = b"", data
            return said
        return b"+%b\r\n" % command[-1]

    async with Peer(answer) as peer, create_redis_pool(url=peer.url) as pool:
        client: Any = pool.client

        async def increment() -> None:
            if where == "alone":
                await client.execute_command("INCR", "n")
            elif where == "pipeline":
                pipe = client.pipeline(transaction=False)
                await pipe.get("a").execute_command("INCR", "n").execute()
            else:
                async with pool.get() as conn:
                    await conn.execute("INCR", "n")

        for number, bad in enumerate(nonsense.values()):
            data = bad
            with pytest.raises(ProtocolError) as e:
                await increment()
            assert e.value.outcome is Outcome.UNKNOWN
            mine = b"%d" % number
            assert await client.get(mine) == mine
            async with pool.get() as conn:
                assert await conn.execute("GET", mine) == mine
        assert standalone(pool).pool.in_use <= 1  # the lane's
