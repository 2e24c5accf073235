"""The command table is what live servers say, and our own columns are what they do."""

from __future__ import annotations

import string
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import redis

from redisutils._command_table import SOURCES, TABLE
from redisutils.commands import (
    Command,
    block_timeout,
    is_blocking,
    is_repeatable,
    keys_of,
    lookup,
    may_write,
)
from redisutils.commands.command import _BYTES, _MAX_SPELLING, _MAX_SPELLINGS, _STR
from scripts import generate_commands
from scripts.command_columns import (
    ELSEWHERE,
    POLICIES,
    REPEATABLE_WITH,
    REPEATABLE_WRITES,
    Fact,
)

Call = tuple[str | bytes | int | float, ...]
Server = Callable[..., Any]


@pytest.fixture(scope="module", params=["valkey", "redis"])
def url(request: pytest.FixtureRequest) -> Iterator[str]:
    binary = generate_commands.binaries().get(request.param)
    if binary is None:
        pytest.skip(f"no {request.param} server is installed")
    with generate_commands.running(binary) as url:
        yield url


@pytest.fixture
def server(url: str) -> Iterator[Server]:
    """Sends a command and answers the server's own reply, as redis-py shapes nothing here."""
    with redis.Redis.from_url(url, protocol=2) as client:
        client.response_callbacks.clear()
        send: Server = client.execute_command
        send("FLUSHALL")
        yield send


def skip_unless_known(server: Server, *names: str | bytes | int | float) -> None:
    for name in names:
        if server("COMMAND", "INFO", name) == [None]:
            pytest.skip(f"this server has no {name!r}")


def name_of(args: Call) -> str:
    """The same in each process, although the moments in it are not."""
    moments: dict[object, str] = {SOON: "soon", LATER: "later", LATER * 1000: "later"}
    words = (moments.get(a, a.decode() if isinstance(a, bytes) else str(a)) for a in args)
    return " ".join(words)[:40]


# The table and the servers


def test_every_command_of_a_live_server_is_in_the_table_with_its_flags_and_keys(url: str) -> None:
    asked_for_the_table = generate_commands.series(url) in SOURCES
    for name, fact in generate_commands.read_server(url).items():
        if name not in TABLE:
            # A newer server may have more. One of the table's own sources may not.
            assert not asked_for_the_table, (
                f"{name} is missing: python -m scripts.generate_commands"
            )
            continue
        row = TABLE[name]
        assert (row.readonly, row.keys, row.numkeys, row.after) == (
            fact.readonly,
            fact.keys,
            fact.numkeys,
            fact.after,
        ), name
        assert row.timeout is not None or not fact.blocking, name
        # What it tells of its policies is not to be overlooked, but where we decide.
        if name not in POLICIES:
            assert fact.request in ("", row.request), name
            assert fact.response in ("", row.response), name


def test_the_table_is_what_its_generator_writes() -> None:
    found = generate_commands.binaries()
    if len(found) < 2:
        pytest.skip(f"needs a Valkey and a Redis server, found {sorted(found)}")
    with (
        generate_commands.running(found["valkey"]) as valkey,
        generate_commands.running(found["redis"]) as redis_,
    ):
        series = tuple(sorted(map(generate_commands.series, (valkey, redis_))))
        if series != SOURCES:
            pytest.skip(f"the table is of {SOURCES}, installed are {series}")
        text = generate_commands.TARGET.read_text(encoding="utf-8")
        # The order of asking must not matter either.
        assert generate_commands.generate([redis_, valkey]) == text
        assert generate_commands.generate([valkey, redis_]) == text


def test_servers_that_disagree_stop_the_generator() -> None:
    one, other = {"GET": Fact(readonly=True)}, {"GET": Fact(readonly=False)}
    with pytest.raises(SystemExit, match="GET"):
        generate_commands.merge({"redis 1": one, "redis 2": other})


def test_servers_that_disagree_about_a_policy_stop_the_generator() -> None:
    one, other = Fact(request="all_nodes"), Fact(request="all_shards")
    with pytest.raises(SystemExit, match="ECHO"):
        generate_commands.merge({"redis 1": {"ECHO": one}, "redis 2": {"ECHO": other}})


def test_what_one_server_alone_tells_of_a_policy_is_taken_unless_we_decide() -> None:
    one, other = Fact(response="agg_sum"), Fact(request="all_nodes")
    for name, expected in (("ECHO", ("all_nodes", "agg_sum")), ("MSETNX", ("", ""))):
        for pair in ((one, other), (other, one)):
            fact = generate_commands._completed(name, *pair)
            assert (fact.request, fact.response) == expected


def test_the_generator_refuses_a_policy_that_it_does_not_know() -> None:
    with pytest.raises(SystemExit, match="a request policy of a new kind: some"):
        generate_commands._policy("request", "ECHO", ["request_policy:some"])


@pytest.mark.parametrize(
    ("name", "request_policy", "response"),
    [
        ("GET", "", ""),
        ("mget", "multi_shard", ""),
        ("DEL", "multi_shard", "agg_sum"),
        ("MSETNX", "", ""),
        ("dbsize", "all_shards", "agg_sum"),
        ("SCRIPT LOAD", "all_nodes", "all_succeeded"),
        ("SCRIPT KILL", "all_nodes", "one_succeeded"),
        ("SCRIPT EXISTS", "all_shards", "agg_logical_and"),
        ("WAIT", "all_shards", "agg_min"),
        ("LATENCY RESET", "all_nodes", "agg_sum"),
        ("ACL SETUSER", "all_nodes", "all_succeeded"),
        ("nobody.knows", "", ""),
    ],
)
def test_policies(name: str, request_policy: str, response: str) -> None:
    command = lookup((name,))
    assert (command.request, command.response) == (request_policy, response)


def test_the_generator_refuses_a_column_about_a_command_that_nobody_has() -> None:
    with pytest.raises(SystemExit, match="HMSET"):
        generate_commands.merge({"redis 1": {"GET": Fact(readonly=True)}})


def test_what_may_be_repeated_is_a_write_if_we_say_so() -> None:
    for name in REPEATABLE_WRITES | REPEATABLE_WITH.keys():
        assert may_write((*name.split(), "a", "b", "c", "REPLACE")), name
    for asks in ("PING", "DBSIZE", "CONFIG GET", "SCRIPT EXISTS", "FUNCTION LIST", "GET", "MULTI"):
        assert not may_write((*asks.split(), "a")), asks


# Names


def spellings(name: str) -> Iterator[Call]:
    for text in (name, name.lower(), name.title()):
        words = text.split()
        yield tuple(words)
        yield tuple(word.encode() for word in words)
        yield (text,)
        yield (text.encode(),)
        yield (words[0].encode(), *words[1:])


def test_every_name_is_found_in_every_spelling() -> None:
    for name in TABLE:
        for args in spellings(name):
            for _ in "first, then remembered":
                assert lookup(args).name == name, args


def test_names_as_bytearray_and_memoryview_and_subclasses_of_str() -> None:
    class Name(str):
        __slots__ = ()

    assert lookup([bytearray(b"get"), "k"]).name == "GET"
    assert lookup([memoryview(b"client"), memoryview(b"list")]).name == "CLIENT LIST"
    assert lookup([Name("client list")]).name == "CLIENT LIST"


def test_white_space_in_the_name_is_as_the_packer_splits_it() -> None:
    assert lookup(("  select\t3",)).stateful
    assert lookup(("GET k",)).name == "GET"
    assert keys_of(("GET k",)) == (b"k",)
    assert keys_of((b"object  encoding", "k")) == (b"k",)
    assert not is_repeatable(lookup(("SET k v NX",)), ("SET k v NX",))


@pytest.mark.parametrize(
    "args", [("MY.MODULE", "k"), (b"\xff\xfe", "k"), ("\ud800", "k"), (7, "k")]
)
def test_an_unknown_command_is_taken_for_the_worst_that_is_likely(args: Call) -> None:
    command = lookup(args)
    assert not command.known
    assert not command.readonly
    assert not is_repeatable(command, args)
    assert not command.stateful
    assert not is_blocking(command, args)
    assert block_timeout(command, args) == 0.0
    assert keys_of(args) == (b"k",)


def test_no_name_at_all() -> None:
    empty: list[Call] = [(), ("",), ("  ",), (b"",)]
    for args in empty:
        assert not lookup(args).known
        assert keys_of(args) == ()


def test_a_container_stands_for_the_subcommands_it_does_not_know() -> None:
    for args in (("CONFIG", "FROB"), ("CONFIG FROB",), ("CONFIG",)):
        assert lookup(args).name == "CONFIG"
        assert not lookup(args).repeatable
    # New subcommands of CLIENT have mostly been switches of the connection.
    assert lookup(("CLIENT", "FROB", "ON")).stateful
    assert not lookup(("CLIENT", "LIST")).stateful
    # COMMAND does something by itself.
    assert lookup(("COMMAND",)).repeatable


def test_hostile_names_do_not_grow_memory() -> None:
    for number in range(5000):
        lookup((f"X{number}",))
        lookup((f"X{number}".encode(),))
        lookup((f"GET {string.ascii_letters * 3}{number}",))
    assert len(_STR) <= _MAX_SPELLINGS
    assert len(_BYTES) <= _MAX_SPELLINGS
    assert max(map(len, _STR)) <= _MAX_SPELLING
    assert len(lookup(("Y" * 100_000,)).name) <= _MAX_SPELLING
    assert lookup(("GET", "k")).name == "GET"


def test_a_known_spelling_costs_no_allocation() -> None:
    args = ("GET", "k")
    first = lookup(args)
    before = sys.getallocatedblocks()
    for _ in range(1000):
        lookup(args)
    assert sys.getallocatedblocks() - before < 100
    assert lookup((b"get", "k")) is first


# Keys

GETKEYS: list[Call] = [
    ("GET", "k"),
    ("SET", "k", "v", "EX", 10, "NX"),
    ("MGET", "a", "b", "c"),
    ("MSET", "a", 1, "b", 2),
    ("MSETEX", 2, "a", 1, "b", 2, "NX"),
    ("DEL", "a", "b", "a"),
    ("RENAME", "a", "b"),
    ("COPY", "a", "b", "REPLACE"),
    ("BITOP", "AND", "d", "a", "b"),
    ("BLPOP", "a", "b", 0),
    ("BLMOVE", "a", "b", "LEFT", "RIGHT", 1.5),
    ("BLMPOP", 0, 2, "a", "b", "LEFT"),
    ("BZMPOP", 0, 1, "a", "MIN"),
    ("BZPOPMIN", "a", "b", 1),
    ("LMPOP", 2, "a", "b", "LEFT"),
    ("ZMPOP", 1, "a", "MAX"),
    ("OBJECT", "ENCODING", "k"),
    ("MEMORY", "USAGE", "k", "SAMPLES", 5),
    ("XGROUP", "CREATE", "s", "g", "$", "MKSTREAM"),
    ("XINFO", "STREAM", "s", "FULL"),
    ("XADD", "s", "*", "f", "v"),
    ("XREAD", "COUNT", 2, "BLOCK", 5, "STREAMS", "a", "b", 0, 0),
    ("XREAD", "STREAMS", "STREAMS", 0),
    ("XREADGROUP", "GROUP", "g", "c", "STREAMS", "a", "b", "c", ">", ">", ">"),
    ("XREADGROUP", "GROUP", "g", "STREAMS", "NOACK", "STREAMS", "a", ">"),
    ("SORT", "k"),
    ("SORT", "k", "BY", "w_*", "LIMIT", 0, 5, "GET", "#", "GET", "o_*", "STORE", "d"),
    ("SORT", "k", "BY", "STORE", "STORE", "d"),
    ("SORT_RO", "k", "BY", "w_*", "GET", "o_*"),
    ("GEOADD", "k", 13.3, 38.1, "m"),
    ("GEORADIUS", "k", 15, 37, 200, "km", "STORE", "d"),
    ("GEORADIUS", "k", 15, 37, 200, "km", "WITHDIST"),
    ("GEORADIUSBYMEMBER", "k", "m", 200, "km", "COUNT", 2, "STOREDIST", "d"),
    ("GEOSEARCHSTORE", "d", "k", "FROMMEMBER", "m", "BYRADIUS", 1, "km"),
    ("LCS", "a", "b", "LEN"),
    ("SINTERCARD", 2, "a", "b", "LIMIT", 1),
    ("SDIFFSTORE", "d", "a", "b"),
    ("SMOVE", "a", "b", "m"),
    ("ZUNION", 2, "a", "b", "WITHSCORES"),
    ("ZUNIONSTORE", "d", 2, "a", "b", "WEIGHTS", 1, 2),
    ("ZINTERSTORE", "d", 1, "a"),
    ("ZDIFF", 2, "a", "b"),
    ("ZDIFFSTORE", "d", 2, "a", "b"),
    ("ZINTERCARD", 2, "a", "b"),
    ("ZRANGESTORE", "d", "a", 0, -1),
    ("PFMERGE", "d", "a", "b"),
    ("PFCOUNT", "a", "b"),
    ("EVAL", "return 1", 2, "a", "b", "x"),
    ("EVALSHA", "0" * 40, 1, "a"),
    ("EVAL_RO", "return 1", 1, "a"),
    ("FCALL", "f", 2, "a", "b"),
    ("FCALL_RO", "f", 1, "a"),
    ("MIGRATE", "h", 6379, "k", 0, 100),
    ("MIGRATE", "h", 6379, "", 0, 100, "COPY", "AUTH2", "KEYS", "KEYS", "KEYS", "a", "KEYS", "b"),
    ("MIGRATE", "h", 6379, "", 0, 100, "AUTH", "KEYS", "KEYS", "a"),
    ("WATCH", "a", "b"),
    ("HEXPIRE", "k", 10, "FIELDS", 1, "f"),
    ("DELIFEQ", "k", "v"),
    ("TOUCH", "a", "b"),
    ("DUMP", "k"),
    ("RESTORE", "k", 0, "payload"),
]


@pytest.mark.parametrize("args", GETKEYS, ids=name_of)
def test_keys_are_those_the_server_finds(server: Server, args: Call) -> None:
    skip_unless_known(server, args[0])
    expected = tuple(server("COMMAND", "GETKEYS", *args))
    assert keys_of(args) == expected
    assert keys_of([str(arg).encode() for arg in args]) == expected
    assert keys_of((str(args[0]).lower(), *args[1:])) == expected
    first, second, *rest = map(str, args)
    if second and " " not in second:
        assert keys_of((f"{first} {second}", *rest)) == expected


@pytest.mark.parametrize(
    "args",
    [
        ("EVAL", "return 1", 0, "not-a-key"),
        ("PING",),
        ("PUBLISH", "channel", "m"),
        ("SCAN", 0),
        ("CLIENT", "LIST"),
        # What the server refuses, since it cannot count the keys.
        ("ZUNION", 9, "a"),
        ("ZUNION", "many", "a"),
        ("ZUNION", -1, "a"),
        ("ZUNION", "9" * 5000, "a"),
        ("ZUNION",),
        ("EVAL",),
        ("XREAD", "COUNT", 2),
        ("GET",),
        ("BITOP", "AND"),
        ("OBJECT", "ENCODING"),
    ],
    ids=name_of,
)
def test_calls_without_keys(args: Call) -> None:
    assert keys_of(args) == ()


def test_keys_come_as_bytes_whatever_they_were() -> None:
    assert keys_of(("MGET", "é", b"\xff", bytearray(b"x"), memoryview(b"y"), 7, 1.5)) == (
        "é".encode(),
        b"\xff",
        b"x",
        b"y",
        b"7",
        b"1.5",
    )


def test_shard_channels_are_routed_as_keys_are() -> None:
    assert keys_of(("SPUBLISH", "c", "m")) == (b"c",)
    assert keys_of(("SSUBSCRIBE", "a", "b")) == (b"a", b"b")


def test_keys_of_commands_that_only_other_servers_have() -> None:
    assert keys_of(("JSON.MGET", "a", "b", "$.x")) == (b"a", b"b")
    assert keys_of(("JSON.MSET", "a", "$", 1, "b", "$", 2)) == (b"a", b"b")
    assert keys_of(("BLMOVEM", "a", "b", "LEFT", "RIGHT", 0)) == (b"a", b"b")
    assert keys_of(("HIMPORT", "SET", "k", "fields", 1)) == (b"k",)
    assert keys_of(("SENTINEL", "MASTERS")) == ()


# Repeating

FUNCTION = "#!lua name=l\nredis.register_function('f', function() return 1 end)"
SOON = int(time.time()) + 60
LATER = int(time.time()) + 86_400
SEEDS: list[Call] = [
    ("SET", "string", "value"),
    ("RPUSH", "list", *"abcdefgh"),
    ("SADD", "set", *"abc"),
    ("SADD", "set2", *"bcd"),
    ("ZADD", "zset", 1, "a", 2, "b", 3, "c"),
    ("ZADD", "zset2", 5, "a", 6, "z"),
    ("HSET", "hash", "f", "v", "g", "w"),
    ("GEOADD", "geo", 13.36, 38.11, "p", 15.08, 37.5, "c"),
    ("PFADD", "hll", *"abc"),
    ("PFADD", "hll2", *"cde"),
]

REPEATABLE: list[Call] = [
    ("GET", "string"),
    ("EVAL_RO", "return redis.call('GET', KEYS[1])", 1, "string"),
    ("TOUCH", "string", "missing"),
    ("SET", "string", "NX"),
    ("SET", "string", "v", "EX", 100),
    ("SET", "string", "v", "EXAT", 1),
    ("SET", "string", "v", "KEEPTTL"),
    ("SETEX", "string", 100, "v"),
    ("PSETEX", "string", 100_000, "v"),
    ("MSET", "a", 1, "b", 2),
    ("MSETEX", 2, "a", 1, "b", 2, "EX", 100),
    ("HMSET", "hash", "f", "x"),
    ("HSETEX", "hash", "EX", 100, "FIELDS", 1, "f", "x"),
    ("HGETEX", "hash", "PERSIST", "FIELDS", 1, "f"),
    ("GETEX", "string"),
    ("GETEX", "string", "PERSIST"),
    ("SETRANGE", "string", 3, "xyz"),
    ("BITFIELD", "string", "GET", "u8", 0),
    ("EXPIRE", "string", 100),
    ("EXPIRE", "string", 100, "XX"),
    ("EXPIRE", "missing", 100),
    ("PEXPIRE", "string", b"100000"),
    ("EXPIREAT", "string", LATER),
    ("PEXPIREAT", "string", LATER * 1000),
    ("HEXPIRE", "hash", 100, "FIELDS", 2, "f", "missing"),
    ("LTRIM", "list", 0, 4),
    ("LTRIM", "list", -3, -1),
    ("SORT", "list", "ALPHA", "LIMIT", 1, 2),
    ("GEORADIUS", "geo", 15, 37, 200, "km"),
    ("COPY", "string", "d", "REPLACE"),
    ("BITOP", "NOT", "d", "string"),
    ("SDIFFSTORE", "d", "set", "set2"),
    ("SUNIONSTORE", "d", "set", "set2"),
    ("ZUNIONSTORE", "d", 2, "zset", "zset2"),
    ("ZRANGESTORE", "d", "zset", 1, 1),
    ("GEOSEARCHSTORE", "d", "geo", "FROMMEMBER", "p", "BYRADIUS", 500, "km"),
    ("PFMERGE", "hll", "hll2"),
    ("SCRIPT", "LOAD", "return 1"),
    ("FUNCTION", "LOAD", "REPLACE", FUNCTION),
    ("CONFIG", "SET", "maxmemory", 0),
    ("CLIENT", "SETNAME", "me"),
    ("CLIENT", "GETNAME"),
    ("CONFIG", "GET", "maxmemory"),
    ("PING",),
    ("ECHO", "x"),
    ("ACL", "WHOAMI"),
]

# Executed twice, each of these shows a difference in its reply or in the data.
NOT_REPEATABLE: list[Call] = [
    ("SET", "new", "v", "NX"),
    ("SET", "string", "v", "GET"),
    ("set", "string", "v", b"get"),
    ("SET", "string", "v", "XX", "EXAT", 1),
    ("SET", "string", "v", "IFEQ", "value"),
    ("SETNX", "new", "v"),
    ("MSETNX", "new", "v"),
    ("MSETEX", 1, "new", "v", "NX"),
    ("GETSET", "string", "v"),
    ("GETDEL", "string"),
    ("GETEX", "string", "EXAT", 1),
    ("HGETEX", "hash", "PXAT", 1, "FIELDS", 1, "f"),
    ("DEL", "string"),
    ("UNLINK", "string"),
    ("DELIFEQ", "string", "value"),
    ("INCR", "number"),
    ("INCRBYFLOAT", "number", 0.5),
    ("APPEND", "string", "x"),
    ("SETBIT", "string", 1, 0),
    ("BITFIELD", "string", "INCRBY", "u8", 0, 1),
    ("BITFIELD", "string", "SET", "u8", 0, 1),
    ("EXPIRE", "string", 0),
    ("EXPIRE", "string", 100, "NX"),
    ("EXPIREAT", "string", 1),
    ("EXPIREAT", "volatile", LATER, "GT"),
    ("PERSIST", "volatile"),
    ("HSET", "hash", "new", 1),
    ("HSETNX", "hash", "new", 1),
    ("HSETEX", "hash", "FNX", "FIELDS", 1, "new", 1),
    ("HINCRBY", "hash", "n", 1),
    ("HDEL", "hash", "f"),
    ("HEXPIRE", "hash", 0, "FIELDS", 1, "f"),
    ("HPERSIST", "volatile-hash", "FIELDS", 1, "f"),
    ("LPUSH", "list", "x"),
    ("LPOP", "list"),
    ("LREM", "list", 0, "a"),
    ("LINSERT", "list", "BEFORE", "a", "x"),
    ("LTRIM", "list", 1, -1),
    ("LTRIM", "list", 0, -2),
    ("LMOVE", "list", "list", "LEFT", "RIGHT"),
    ("SADD", "set", "new"),
    ("SREM", "set", "a"),
    ("SPOP", "set"),
    ("SMOVE", "set", "set2", "a"),
    ("ZADD", "zset", 1, "new"),
    ("ZINCRBY", "zset", 1, "a"),
    ("ZREM", "zset", "a"),
    ("ZPOPMIN", "zset"),
    ("PFADD", "hll", "new"),
    ("GEOADD", "geo", 1, 1, "new"),
    ("XADD", "stream", "*", "f", "v"),
    ("RENAME", "string", "d"),
    ("COPY", "string", "d"),
    ("BITOP", "NOT", "string", "string"),
    ("SDIFFSTORE", "set", "set2", "set"),
    ("ZUNIONSTORE", "zset", 2, "zset", "zset2"),
    ("ZRANGESTORE", "zset", "zset", 1, -1),
    ("SORT", "list", "ALPHA", "LIMIT", 1, 100, "STORE", "list"),
    ("FUNCTION", "LOAD", FUNCTION),
    ("EVAL", "return redis.call('INCR', KEYS[1])", 1, "number"),
]

# In a row they show no difference, but it would be there with somebody in between, with time
# passing, or with other data.
OUT_ALL_THE_SAME: list[Call] = [
    ("LSET", "list", 0, "x"),
    ("EXPIRE", "string", 59),
    ("EXPIREAT", "string", SOON),
    ("EXPIRE", "string", "soon"),
    ("EXPIRE", "string"),
    ("EXPIREAT", "string"),
    ("LTRIM", "list", 0),
    ("GETEX", "string", "EX", 100),
    ("PUBLISH", "channel", "m"),
    ("FLUSHALL",),
    ("SWAPDB", 0, 0),
    ("BLPOP", "list", 1),
    ("WAIT", 0, 1),
    ("SELECT", 0),
    ("ACL", "LOG", "RESET"),
]


def prepare(server: Server, args: Call) -> None:
    skip_unless_known(server, *args[:1])
    server("FLUSHALL")
    server("FUNCTION", "FLUSH")
    for seed in SEEDS:
        server(*seed)
    if args[1:2] == ("volatile",):
        server("SET", "volatile", "v", "EX", 100)
    if args[1:2] == ("volatile-hash",):
        server("HSETEX", "volatile-hash", "EX", 100, "FIELDS", 1, "f", "v")


READERS: dict[bytes, Call] = {
    b"string": ("GET",),
    b"list": ("LRANGE", 0, -1),
    b"set": ("SORT", "ALPHA"),
    b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"hash": ("HGETALL",),
    b"stream": ("XRANGE", "-", "+"),
}


def state(server: Server) -> dict[bytes, Any]:
    """All data; of a time to live only that there is one, for clocks go on."""
    found = {}
    for key in server("KEYS", "*"):
        name, *rest = READERS[server("TYPE", key)]
        mortal = server("TTL", key) >= 0
        found[key] = (server(name, key, *rest), mortal)
    return found


def outcome(server: Server, args: Call) -> tuple[Any, dict[bytes, Any]]:
    try:
        reply = server(*args)
    except redis.ResponseError as error:
        reply = str(error).encode()
        if b"syntax error" in reply:
            pytest.skip(f"this server does not know the options: {error}")
    return reply, state(server)


@pytest.mark.parametrize("args", REPEATABLE, ids=name_of)
def test_a_repeatable_call_does_and_says_the_same_twice(server: Server, args: Call) -> None:
    assert is_repeatable(lookup(args), args)
    prepare(server, args)
    assert outcome(server, args) == outcome(server, args)


@pytest.mark.parametrize("args", NOT_REPEATABLE, ids=name_of)
def test_a_call_that_differs_the_second_time_is_not_repeatable(server: Server, args: Call) -> None:
    assert not is_repeatable(lookup(args), args)
    prepare(server, args)
    assert outcome(server, args) != outcome(server, args)


@pytest.mark.parametrize("args", OUT_ALL_THE_SAME, ids=name_of)
def test_a_call_that_might_differ_is_not_repeatable(args: Call) -> None:
    assert not is_repeatable(lookup(args), args)


def test_all_that_the_server_flags_as_reading_is_repeatable() -> None:
    for name, row in TABLE.items():
        assert not row.readonly or lookup((name,)).repeatable, name


# Blocking


@pytest.mark.parametrize(
    ("args", "seconds"),
    [
        (("BLPOP", "a", "b", 1.5), 1.5),
        (("blpop", "a", b"2"), 2.0),
        (("BRPOP", "a", "0"), None),
        (("BRPOP", "a", "0.0"), None),
        (("BLMOVE", "a", "b", "LEFT", "RIGHT", 3), 3.0),
        (("BRPOPLPUSH", "a", "b", 3), 3.0),
        (("BLMPOP", 0.5, 2, "a", "b", "LEFT", "COUNT", 9), 0.5),
        (("BZMPOP", 0, 1, "a", "MIN"), None),
        (("BZPOPMAX", "a", "1e1"), 10.0),
        (("BLMOVEM", "a", "b", "LEFT", "RIGHT", 4, "COUNT", 2, "OBO"), 4.0),
        (("WAIT", 1, 250), 0.25),
        (("WAIT", 1, 0), None),
        (("WAITAOF", 0, 1, 500), 0.5),
        (("XREAD", "BLOCK", 1500, "STREAMS", "s", "$"), 1.5),
        (("xread", "count", 2, b"block", b"0", "streams", "s", "$"), None),
        (("XREADGROUP", "GROUP", "g", "c", "BLOCK", 20, "STREAMS", "s", ">"), 0.02),
        (("XREADGROUP", "GROUP", "BLOCK", "7", "BLOCK", 20, "STREAMS", "s", ">"), 0.02),
        (("XREADGROUP GROUP", "STREAMS", "c", "BLOCK", 20, "STREAMS", "s", ">"), 0.02),
        (("TS.READ", "k", "$", "BLOCK", 100, 1), 0.1),
        # What the server refuses at once.
        (("BLPOP", "a", "soon"), 0.0),
        (("BLPOP", "a", -1), 0.0),
        (("BLPOP", "a", "inf"), 0.0),
        (("BLPOP", "a", "nan"), 0.0),
        (("BLPOP",), 0.0),
        (("BLMOVE", "a", "b"), 0.0),
        (("XREAD", "STREAMS", "s", "0", "BLOCK"), 0.0),
        (("XREAD", "BLOCK"), 0.0),
    ],
    ids=lambda value: name_of(value) if isinstance(value, tuple) else None,
)
def test_how_long_a_blocking_call_may_wait(args: Call, seconds: float | None) -> None:
    assert block_timeout(lookup(args), args) == seconds


@pytest.mark.parametrize(
    ("args", "blocks"),
    [
        (("BLPOP", "a", 0), True),
        (("blpop a 0",), True),
        ((b"WAIT", 1, 0), True),
        (("XREAD", "STREAMS", "s", 0), False),
        (("XREAD", "STREAMS", "BLOCK", 0), False),
        (("XREAD", "COUNT", "1", "BLOCK", 0, "STREAMS", "s", 0), True),
        (("XREADGROUP", "GROUP", "BLOCK", "BLOCK", "STREAMS", "s", ">"), False),
        (("XREADGROUP", "GROUP", "g", "c", "NOACK", "block", 0, "STREAMS", "s", ">"), True),
        (("LPOP", "a"), False),
        (("GET", "BLOCK"), False),
    ],
    ids=lambda value: name_of(value) if isinstance(value, tuple) else None,
)
def test_which_calls_block(args: Call, blocks: bool) -> None:
    assert is_blocking(lookup(args), args) is blocks


@pytest.mark.parametrize(
    "args",
    [
        ("BLPOP", "a", "b", 0.05),
        ("BLMPOP", 0.05, 1, "a", "LEFT"),
        ("BZMPOP", 0.05, 1, "a", "MIN"),
        ("BZPOPMIN", "a", 0.05),
        ("BLMOVE", "a", "b", "LEFT", "RIGHT", 0.05),
        ("BRPOPLPUSH", "a", "b", 0.05),
        ("XREAD", "BLOCK", 50, "STREAMS", "a", "$"),
        ("WAIT", 1, 50),
    ],
    ids=name_of,
)
def test_the_server_waits_as_long_as_we_say(server: Server, args: Call) -> None:
    begun = time.monotonic()
    server(*args)
    waited = time.monotonic() - begun
    expected = block_timeout(lookup(args), args)
    assert expected == pytest.approx(0.05)
    assert expected is not None
    assert expected * 0.9 < waited < expected + 5.0


# State


def test_commands_that_change_their_connection_say_what_to_do_instead() -> None:
    top = (
        "SELECT WATCH UNWATCH MULTI EXEC DISCARD AUTH HELLO RESET QUIT MONITOR SYNC PSYNC REPLCONF"
        " SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE ASKING READONLY"
        " READWRITE WAIT WAITAOF"
    )
    below = {
        "CLIENT": "REPLY TRACKING CACHING NO-TOUCH NO-EVICT IMPORT-SOURCE CAPA",
        "SCRIPT": "DEBUG",
        "CLUSTER": "SYNCSLOTS",
        "HIMPORT": "PREPARE SET DISCARD DISCARDALL",
    }
    names = [f"{container} {word}" for container in below for word in below[container].split()]
    for name in (*top.split(), *names):
        for args in spellings(name):
            assert lookup(args).stateful, args
            assert lookup(args).advice, args
    assert "create_redis_pool(database=" in lookup(("SELECT", 1)).advice
    assert "a cluster has database 0 alone" in lookup(("SELECT", 1)).advice
    assert "pipeline()" in lookup(("WATCH", "k")).advice
    assert "pubsub()" in lookup(("SUBSCRIBE", "c")).advice
    assert "pool.get()" in lookup(("CLIENT", "REPLY", "OFF")).advice


@pytest.mark.parametrize("name", ["GET", "CLIENT SETNAME", "CLIENT SETINFO", "CLIENT ID", "EVAL"])
def test_other_commands_may_be_shared(name: str) -> None:
    assert not lookup((name,)).stateful
    assert lookup((name,)).advice == ""


def test_what_a_server_reports_as_changing_the_connection_is_stateful(server: Server) -> None:
    """The server's own categories, against our list: nothing of a transaction or of pub/sub, and
    none that may not stand in a transaction, has been forgotten."""
    harmless = {"PUBLISH", "SPUBLISH", "PUBSUB", "SAVE", "SHUTDOWN"}
    for entry in server("COMMAND"):
        name = entry[0].decode().upper()
        flags, categories = set(entry[2]), set(entry[6])
        suspicious = flags & {b"pubsub", b"no_multi"} or b"@transaction" in categories
        if suspicious and name not in harmless:
            assert lookup((name,)).stateful, name


def test_hand_written_entries_of_other_servers_are_in_the_table() -> None:
    assert ELSEWHERE.keys() <= TABLE.keys()
    assert lookup(("VSIM", "k")).repeatable
    assert lookup(("SENTINEL", "MASTERS")).repeatable
    assert not lookup(("SENTINEL", "RESET", "*")).repeatable


def test_a_command_is_a_value() -> None:
    assert lookup(("get",)) == lookup((b"GET",))
    assert hash(lookup(("CLIENT",))) == hash(lookup(("CLIENT",)))
    assert isinstance(lookup(("SET",)), Command)
    with pytest.raises(AttributeError):
        lookup(("SET",)).name = "GET"  # type: ignore[misc]  # it is frozen
