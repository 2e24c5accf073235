"""Which slots a command touches is what servers say."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.crc import key_slot

from redisutils._command_table import TABLE
from redisutils.commands import keys_of
from redisutils.connection.packing import pack, pack_many, unpack
from redisutils.errors import CrossSlot, Outcome
from redisutils.testing import EmbeddedServer, find_servers
from redisutils.topology.cluster.keys import (
    SLOTS,
    commands_in,
    keyed_first,
    keys_in,
    shown,
    slot_of,
    slots_in,
    the_slot,
    the_slot_of_all,
)

Server = Callable[..., Any]

BRACES = [
    b"", b"{", b"}", b"{}", b"{}a", b"{a}", b"a{b}c", b"a{b", b"a}b{c}", b"{{a}}", b"{a}{b}",
    b"{}{a}", b"}{", b"a{}b{c}", b"{\r\n}", b"{\xff}\x00", b"123456789",
]  # fmt: skip

# Much of what matters to a slot, and to a cut, close together.
pieces = st.sampled_from([b"{", b"}", b"\r\n", b"*1\r\n", b"\r\n*", b"$3\r\n", b"a", b"\x00\xff"])
values = st.one_of(st.binary(max_size=20), st.lists(pieces, max_size=8).map(b"".join))
commands = st.lists(st.lists(values, min_size=1, max_size=5), max_size=6)


@pytest.fixture(scope="module", params=find_servers())
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A cluster of one node, which knows of slots although it serves none."""
    with (
        EmbeddedServer(request.param, role="cluster") as server,
        redis.Redis.from_url(server.url, protocol=2) as client,
    ):
        client.response_callbacks.clear()
        yield client.execute_command


@pytest.mark.parametrize("key", BRACES)
def test_a_slot_is_what_the_server_says(server: Server, key: bytes) -> None:
    assert server("CLUSTER", "KEYSLOT", key) == slot_of(key)


@given(values)
def test_a_slot_is_what_redis_py_says(key: bytes) -> None:
    assert slot_of(key) == key_slot(key)
    assert 0 <= slot_of(key) < SLOTS


def test_the_tag_alone_counts() -> None:
    assert slot_of(b"{user:1}:orders") == slot_of(b"user:1") == slot_of(b"a{user:1}b{c}")
    assert slot_of(b"{}a") != slot_of(b"")


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("GET", True), ("get", True), ("Set", True), ("INCR", True), ("XADD", True),
        ("HSET", True), ("ZADD", True), ("SPUBLISH", True), ("JSON.GET", True), ("EXPIRE", True),
        ("nobody.knows", True),
        ("MGET", False), ("DEL", False), ("MSET", False), ("EVAL", False), ("FCALL", False),
        ("SORT", False), ("GEORADIUS", False), ("XREAD", False), ("XREADGROUP", False),
        ("BLPOP", False), ("RENAME", False), ("LMOVE", False), ("MIGRATE", False),
        ("PING", False), ("KEYS", False), ("SCAN", False), ("PUBLISH", False), ("CLIENT", False),
        ("OBJECT", False), ("XGROUP", False), ("MEMORY", False), ("MULTI", False),
        ("SSUBSCRIBE", False), ("ZUNION", False),
        ("ZUNIONSTORE", False), ("zdiffstore", False), ("SINTERCARD", False), ("BITOP", False),
    ],
)  # fmt: skip
def test_which_commands_have_their_one_key_first(name: str, first: bool) -> None:
    assert keyed_first(name.encode()) is first


@given(st.sampled_from([name for name in TABLE if " " not in name]), st.lists(values, max_size=8))
@settings(max_examples=500)
def test_with_the_one_key_first_it_is_the_only_one(name: str, arguments: list[bytes]) -> None:
    words = [name.encode(), *arguments]
    if keyed_first(words[0]):
        assert list(keys_of(words)) == arguments[:1]


@given(commands)
def test_a_run_of_commands_is_cut_where_each_ends(run: list[list[bytes]]) -> None:
    packed = [b"*%d\r\n" % len(words) + b"".join(map(bulk, words)) for words in run]
    for count in (None, len(run)):
        assert commands_in(b"".join(packed), count) == packed


def bulk(word: bytes) -> bytes:
    return b"$%d\r\n%b\r\n" % (len(word), word)


def test_what_looks_like_a_command_within_a_value_is_none() -> None:
    inner = pack(["GET", "k"])
    run = [pack(["SET", "k", b"\r\n" + inner]), pack(["GET", "k"])]
    for count in (None, 2):
        assert commands_in(b"".join(run), count) == run


def test_the_keys_and_slots_of_a_run() -> None:
    run = pack_many([
        ["PING"], ["SET", "b", "k"], ["MGET", "a", "b"], ["EVAL", "return 1", 1, "c", "d"],
        ["XREAD", "COUNT", 1, "STREAMS", "s{a}", "0"], ["SPUBLISH", "news", "x"],
        ["CLIENT", "LIST"],
    ])  # fmt: skip
    assert keys_in(run) == [b"b", b"a", b"b", b"c", b"s{a}", b"news"]
    assert slots_in(run) == [slot_of(key) for key in (b"b", b"a", b"c", b"news")]
    assert slots_in(b"") == slots_in(pack(["PING"])) == []


@pytest.mark.parametrize(
    "call",
    [
        ["GET", "k"],
        ["MSETNX", "{t}a", 1, "{t}b", 2],
        ["EVAL", "return 1", 2, "{t}a", "{t}b", "other"],
        ["ZUNIONSTORE", "{t}a", 2, "{t}b", "{t}c", "WEIGHTS", 1, 2],
        ["OBJECT", "ENCODING", "k"],
        ["XREADGROUP", "GROUP", "g", "c", "STREAMS", "{t}a", "{t}b", ">", ">"],
    ],
)
def test_the_one_slot_is_that_of_the_servers_keys(server: Server, call: list[Any]) -> None:
    (words,) = unpack(pack(call))
    (slot,) = {slot_of(key) for key in server("COMMAND", "GETKEYS", *words)}
    assert the_slot(words) == slot


@pytest.mark.parametrize("name", ["COUNTKEYSINSLOT", "getkeysinslot"])
def test_the_owner_of_a_slot_is_asked_for_its_keys(name: str) -> None:
    words = [b"cluster", name.encode(), b"16383", b"10"]
    assert the_slot(words) == 16383
    assert slots_in(pack(words)) == [16383]
    for odd in (b"16384", b"-1", b"x", b"1.5", b"nan", b""):
        assert the_slot([b"CLUSTER", name.encode(), odd]) is None
    assert the_slot([b"CLUSTER", name.encode()]) is None


def test_what_is_published_goes_where_its_channel_would_live() -> None:
    """By two ways the messages on a channel could change places."""
    publish, other = ("PUBLISH", "prices:ES", "1"), ("SET", "k", "1")
    assert the_slot(publish) == slot_of(b"prices:ES")
    assert slots_in(pack(publish)) == [slot_of(b"prices:ES")]
    # A transaction goes where its keys are, whatever it publishes.
    assert the_slot_of_all((publish, other), "a transaction") == slot_of(b"k")
    assert slots_in(pack(("MULTI",)) + pack(publish) + pack(other)) == [slot_of(b"k")]


@pytest.mark.parametrize(
    "call", [["PING"], ["EVAL", "return 1", 0, "x"], ["PUBLISH"], ["GET"], ["MGET"]]
)
def test_without_keys_there_is_no_slot(call: list[Any]) -> None:
    assert the_slot(unpack(pack(call))[0]) is None


def test_keys_of_two_slots_are_named() -> None:
    with pytest.raises(CrossSlot) as caught:
        the_slot([b"msetnx", b"b", b"1", b"a", b"2"])
    message = str(caught.value)
    assert message.startswith("MSETNX: the keys 'b' (slot 3300) and 'a' (slot 15495)")
    assert "one command can reach only one" in message
    assert "hash tag" in message
    assert caught.value.outcome is Outcome.NOT_SENT
    assert isinstance(caught.value, redis.exceptions.ClusterCrossSlotError)


def test_keys_in_a_message_are_printable_and_short() -> None:
    with pytest.raises(CrossSlot) as caught:
        the_slot([b"RENAME", b"\x1b[2J\xff\n" + b"x" * 500, "é".encode()])
    assert str(caught.value).isprintable()
    assert "\\x1b[2J\\xff\\n" in str(caught.value)
    assert len(str(caught.value)) < 500


@given(st.binary(max_size=200))
def test_any_key_can_be_shown(key: bytes) -> None:
    assert shown(key).isprintable()
    assert len(shown(key)) <= 66


def test_a_transaction_lives_in_one_slot() -> None:
    multi, execute = [b"MULTI"], [b"EXEC"]
    alike = [multi, [b"SET", b"{t}a", b"1"], [b"PING"], [b"INCR", b"{t}b"], execute]
    assert the_slot_of_all(alike, "a transaction") == slot_of(b"t")
    assert the_slot_of_all([multi, [b"PING"], execute], "a transaction") is None
    apart = [multi, [b"SET", b"a", b"1"], [b"PING"], [b"incr", b"b"], execute]
    with pytest.raises(CrossSlot) as caught:
        the_slot_of_all(apart, "a transaction")
    assert str(caught.value).startswith(
        "the keys 'a' of SET (slot 15495) and 'b' of INCR (slot 3300) live in different slots"
    )
    assert "a transaction can reach only one" in str(caught.value)


def test_a_command_that_could_be_split_is_refused_within_a_transaction() -> None:
    with pytest.raises(CrossSlot, match="of MGET"):
        the_slot_of_all([[b"MGET", b"a", b"b"]], "a transaction")
