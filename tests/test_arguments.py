"""What redis-py takes as an argument is sent as redis-py sends it; what has no one meaning is
refused before anything is sent.
"""

from __future__ import annotations

import asyncio
import enum
from typing import Any

import pytest
import redis

from redisutils import Outcome, outcome_of
from redisutils.testing import EmbeddedServer

from .ours import client_at, piped


class Side(enum.StrEnum):
    BUY = "buy"


class Price(float):
    pass


class Blob(bytes):
    pass


VALUES: dict[str, tuple[Any, bytes]] = {
    "text": ("€ 1", "€ 1".encode()),
    "bytes": (b"\x00\xff", b"\x00\xff"),
    "bytearray": (bytearray(b"\x00\xff"), b"\x00\xff"),
    "memoryview": (memoryview(b"\x00\xff"), b"\x00\xff"),
    "subclass of bytes": (Blob(b"blob"), b"blob"),
    "int": (-3, b"-3"),
    "float": (0.1, b"0.1"),
    "subclass of str": (Side.BUY, b"buy"),
    "subclass of float": (Price(1.5), b"1.5"),
}
each_value = pytest.mark.parametrize(("value", "sent"), VALUES.values(), ids=VALUES.keys())


@each_value
@pytest.mark.parametrize("beside", ["plain", b"\xff", bytearray(b"x")], ids=["str", "bytes", "odd"])
async def test_each_kind_arrives(
    clean_server: EmbeddedServer, value: Any, sent: bytes, beside: Any
) -> None:
    """Also beside one that is not packed in C."""
    async with client_at(clean_server) as client:
        assert await client.execute_command("SET", beside, value) is True
        assert await client.get(beside) == sent
        assert await piped(client, False, ("ECHO", value), ("APPEND", beside, value)).execute() == [
            sent,
            2 * len(sent),
        ]


@pytest.mark.parametrize("name", ["CONFIG GET", b"CONFIG GET", "config  get"])
async def test_a_name_of_several_words(clean_server: EmbeddedServer, name: Any) -> None:
    async with client_at(clean_server, decode_responses=True) as client:
        assert await client.execute_command(name, "port") == {"port": str(clean_server.port)}
        answers = await piped(client, False, (name, "port"), ("ECHO", "x")).execute()
        assert answers == [{"port": str(clean_server.port)}, "x"]


async def test_in_another_encoding(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    async with client_at(clean_server, encoding="latin-1", decode_responses=True) as client:
        assert await client.set("ä", "ö") is True
        assert await piped(client, True, ("GET", "ä"), ("APPEND", "ä", "ü")).execute() == ["ö", 2]
        with pytest.raises(UnicodeEncodeError) as failure:
            await client.set("k", "€")
        assert outcome_of(failure.value) is Outcome.NOT_SENT
    assert admin.strlen("ä".encode("latin-1")) == 2


WRONG: dict[str, tuple[Any, type[Exception]]] = {
    "None": (None, redis.DataError),
    "bool": (True, redis.DataError),
    "list": ([1], redis.DataError),
    "object": (object(), redis.DataError),
    "no text": ("\ud800", UnicodeEncodeError),
}
each_wrong = pytest.mark.parametrize(("value", "error"), WRONG.values(), ids=WRONG.keys())


@each_wrong
@pytest.mark.parametrize("key", ["k", bytearray(b"k")], ids=["str", "odd"])
async def test_what_has_no_one_meaning_is_not_sent(
    clean_server: EmbeddedServer, value: Any, error: type[Exception], key: Any
) -> None:
    async with client_at(clean_server) as client:
        with pytest.raises(error) as alone:
            await client.execute_command("SET", key, value)
        with pytest.raises(error) as piped_:
            await piped(client, False, ("SET", "other", "v"), ("SET", key, value)).execute()
        for failure in (alone.value, piped_.value):
            assert outcome_of(failure) is Outcome.NOT_SENT
        assert await client.dbsize() == 0


async def test_a_name_that_is_none(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        name: Any = None
        with pytest.raises(redis.DataError, match="argument 0 of None"):
            await client.execute_command(name)
        assert await client.ping()


@pytest.mark.parametrize("name", [" ", "   ", b"", b" "])
async def test_a_command_without_a_word_is_refused_and_shifts_no_reply(
    clean_server: EmbeddedServer, name: Any
) -> None:
    async with client_at(clean_server) as client:
        await client.set("a", "of a")
        await client.set("b", "of b")
        calls = (client.execute_command(name), client.get("a"), client.get("b"))
        answers: list[Any] = list(await asyncio.gather(*calls, return_exceptions=True))
        assert isinstance(answers[0], redis.DataError)
        assert outcome_of(answers[0]) is Outcome.NOT_SENT
        assert answers[1:] == [b"of a", b"of b"]
        with pytest.raises(redis.DataError):
            await client.pipeline(transaction=False).execute_command(name).get("a").execute()
