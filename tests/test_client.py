"""The client is redis-py's: its constructors, its shapes of replies, its extension points."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Mapping
from typing import Any, ClassVar
from urllib.parse import quote

import pytest
import redis
import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from redisutils import (
    CommandTimeout,
    ConfigError,
    ConnectionLost,
    NotSharable,
    Outcome,
    PoolTimeout,
    Redis,
    outcome_of,
)
from redisutils.client.pipeline import Pipeline
from redisutils.testing import EmbeddedServer, FaultProxy
from tests.ours import standalone

from .conftest import StartServer
from .ours import client_at, clients_named, pool_at, until

# --- made as redis-py's is ---


async def test_it_is_a_redis_py_client(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        assert isinstance(client, redis.asyncio.Redis)
        assert await client.set("k", "v") is True
        assert await client.get("k") == b"v"
    async with pool_at(clean_server) as pool:
        assert isinstance(pool.client, redis.asyncio.Redis)
        assert await pool.client.get("k") == b"v"


@pytest.mark.parametrize("scheme", ["redis", "valkey", "unix"])
async def test_from_url_with_database_and_query(
    clean_server: EmbeddedServer, admin: redis.Redis, scheme: str
) -> None:
    secret = quote(clean_server.password, safe="")
    if scheme == "unix":
        place = f"unix://:{secret}@{clean_server.unix_socket}?db=3&"
    else:
        place = f"{scheme}://:{secret}@{clean_server.host}:{clean_server.port}/3?"
    url = f"{place}socket_timeout=7.5&max_connections=4&client_name=by-url"
    async with Redis.from_url(url, decode_responses=True, client_name="loses") as client:
        info = await client.client_info()
        assert (info["db"], info["name"]) == (3, "by-url")
        kwargs = client.connection_pool.connection_kwargs
        assert (kwargs["db"], kwargs["socket_timeout"]) == (3, 7.5)
        assert client.connection_pool.max_connections == 4
        assert await client.set("k", "v") is True
        assert await client.get("k") == "v"
    assert admin.get("k") is None  # in database 0
    assert repr(client).count(clean_server.password) == 0


async def test_a_database_in_the_query_wins_over_the_path(clean_server: EmbeddedServer) -> None:
    url = f"redis://:{quote(clean_server.password)}@127.0.0.1:{clean_server.port}/3?db=5"
    async with Redis.from_url(url, db=1) as client:
        assert (await client.client_info())["db"] == 5


@pytest.mark.parametrize("url", ["http://localhost", "localhost:6379", "redis://h:port"])
async def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # redis-py's words
        _ = Redis.from_url(url)


@pytest.mark.parametrize(
    "kind", [redis.asyncio.ConnectionPool, redis.asyncio.BlockingConnectionPool]
)
async def test_from_a_redis_py_pool(
    clean_server: EmbeddedServer, kind: type[redis.asyncio.ConnectionPool]
) -> None:
    url = clean_server.url.removesuffix("/0") + "/2"
    theirs = kind.from_url(url, max_connections=3, decode_responses=True)
    async with Redis(connection_pool=theirs) as client:
        assert (await client.client_info())["db"] == 2
        assert client.connection_pool.max_connections == 3
        assert client.connection_pool.connection_kwargs["decode_responses"] is True
    async with Redis.from_pool(theirs) as client:
        assert await client.echo("é") == "é"
    assert theirs._available_connections == []  # not one connection of theirs was opened


async def test_a_blocking_pools_timeout_bounds_the_wait(clean_server: EmbeddedServer) -> None:
    theirs = redis.asyncio.BlockingConnectionPool.from_url(
        clean_server.url, max_connections=1, timeout=0.02
    )
    async with Redis.from_pool(theirs) as client:
        await client.ping()  # takes the one connection for the lane
        with pytest.raises(PoolTimeout, match=r"0\.02 s: all 1 are in use"):
            await client.blpop("list", 1)


async def test_clients_of_one_pool_share_it(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        other = Redis(connection_pool=client.connection_pool)
        assert await other.client_id() == await client.client_id()
        await other.aclose()  # not its pool
        assert await client.ping()


@pytest.mark.parametrize("first", ["get", "select"])
async def test_client_gives_a_connection_of_its_own(
    clean_server: EmbeddedServer, first: str
) -> None:
    async with client_at(clean_server) as client:
        shared = await client.client_id()
        single = client.client()
        try:
            if first == "select":
                await single.select(4)
            own = await single.client_id()
            assert own != shared
            assert await single.select(4) is True
            assert await single.client_id() == own
            assert (await single.client_info())["db"] == 4
            assert (await client.client_info())["db"] == 0
        finally:
            await single.aclose()
        await client.set("k", "in 0")
        async with client.client() as another:  # not the one whose database was changed
            assert await another.get("k") == b"in 0"


async def test_clients_one_after_the_other_use_one_connection(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """It stands ready in the pool, and is taken without asking the server."""
    async with pool_at(clean_server) as pool:
        async with pool.client.client() as own:
            number = await own.client_id()
        before = admin.info("commandstats")["cmdstat_hello"]["calls"]
        for _ in range(3):
            async with pool.client.client() as own:
                assert standalone(pool).pool.in_use == 1
                assert await own.client_id() == number
            assert standalone(pool).pool.in_use == 0
        assert admin.info("commandstats")["cmdstat_hello"]["calls"] == before


async def test_a_lost_state_is_not_forgotten_by_connecting_anew(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """What SELECT had set is gone: nothing runs before somebody has set it again."""
    async with pool_at(clean_server) as pool:
        single = pool.client.client()
        await single.select(3)
        number = await single.client_id()
        async with pool.client.client() as other:
            await other.ping()  # leaves a connection that stands ready
        lane: Any = single._private_lane()
        admin.client_kill_filter(_id=str(number))
        await until(lambda: lane.connection is None, "the end of its connection")
        for again in (single.initialize, lambda: single.set("k", "in 0")):
            with pytest.raises(ConnectionLost, match="set it again") as e:
                await again()
            assert e.value.outcome is Outcome.NOT_SENT
        assert await single.select(3) is True
        await single.set("k", "in 3")
        assert await pool.client.get("k") is None
        await single.aclose()


async def test_single_connection_client(clean_server: EmbeddedServer, admin: redis.Redis) -> None:
    async with client_at(clean_server, single_connection_client=True, client_name="one") as client:
        await asyncio.gather(*(client.incr("n") for _ in range(20)))
        await client.select(2)
        assert await client.get("n") is None
        assert len(clients_named(admin, "one")) == 1
    await until(lambda: not clients_named(admin, "one"), "its connection's end")


async def test_it_works_again_after_aclose(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    client = client_at(clean_server, client_name="again")
    quick = client.with_timeout(3)
    for number in range(3):
        assert await client.incr("n") == number + 1
        await quick.ping()
        await client.aclose()
        await until(lambda: not clients_named(admin, "again"), "the end of its connections")
    await client.aclose()


async def test_concurrent_first_commands_open_one_connection(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with client_at(clean_server, proxy) as client:
        await asyncio.gather(*(client.ping() for _ in range(50)))
        quick = client.with_timeout(3)
        await asyncio.gather(*(quick.ping() for _ in range(50)))
        assert proxy.accepted == 1


async def test_commands_are_coroutines_for_tasks(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        await client.set("k", "v")
        task = asyncio.create_task(client.get("k"), name="mine")
        assert await task == b"v"


# --- arguments ---


@pytest.mark.parametrize(
    "arguments",
    [
        {"retry_on_timeout": True},
        {"retry_on_error": [redis.TimeoutError]},
        {"redis_connect_func": print},
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        _ = Redis(**arguments)


def test_what_asks_for_nothing_is_no_trouble() -> None:
    assert isinstance(
        Redis(retry_on_timeout=False, retry_on_error=[], redis_connect_func=None), Redis
    )


def test_an_unknown_argument_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="'hots'"):
        _ = Redis(hots="localhost")
    with pytest.raises(TypeError, match="'colour'"):
        _ = Redis.from_url("redis://localhost?colour=red")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"socket_timeout": 0}, r"socket_timeout=0 .* greater than 0"),
        ({"socket_connect_timeout": "soon"}, "socket_connect_timeout='soon'"),
        ({"protocol": 4}, "protocol=4 must be 2 or 3"),
        ({"password": "x", "credential_provider": object()}, "credential_provider"),
        ({"retry_mode": "sometimes"}, "retry_mode='sometimes'"),
    ],
)
def test_a_wrong_value_is_named(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        _ = Redis(**arguments)


@pytest.mark.filterwarnings("ignore:lib_name and lib_version:DeprecationWarning")
async def test_every_redis_py_argument_is_known() -> None:
    import inspect

    names = inspect.signature(redis.asyncio.Redis.__init__).parameters.keys() - {"self"}
    ours = inspect.signature(Redis.__init__).parameters.keys()
    for name in names - ours:
        if name not in {"host", "port", "encoding"}:
            given: dict[str, Any] = {name: None}
            made = Redis(**given)
            assert name in made.connection_pool.connection_kwargs


async def test_socket_timeout_is_the_commands_budget(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    async with client_at(clean_server, proxy, socket_timeout=0.05) as client:
        await client.ping()
        proxy.stall()
        with pytest.raises(redis.TimeoutError) as failure:
            await client.incr("n")
        assert isinstance(failure.value, CommandTimeout | ConnectionLost)
        assert outcome_of(failure.value) is Outcome.UNKNOWN
        proxy.restore()


async def test_redis_pys_retry_is_translated(unused_tcp_port: int) -> None:
    retry = Retry(ExponentialBackoff(cap=0.002, base=0.001), 2)
    async with Redis(host="127.0.0.1", port=unused_tcp_port, retry=retry) as client:
        with pytest.raises(redis.ConnectionError, match="tried 3 times"):
            await client.get("k")


# --- extension points ---


@pytest.mark.parametrize("ours", [Redis, Pipeline])
def test_a_short_path_looks_like_redis_pys_method(ours: type) -> None:
    theirs = redis.asyncio.Redis.set
    method = getattr(ours, "set")  # noqa: B009  # whose type is redis-py's
    assert inspect.signature(method) == inspect.signature(theirs)
    assert method.__doc__ == theirs.__doc__


async def test_an_overridden_execute_command_is_honoured(clean_server: EmbeddedServer) -> None:
    class Counting(Redis):
        calls: ClassVar[list[Any]] = []

        async def execute_command(self, *args: Any, **options: Any) -> Any:
            self.calls.append(args[0])
            return await super().execute_command(*args, **options)

    async with (
        client_at(clean_server) as plain,
        Counting(connection_pool=plain.connection_pool) as client,
    ):
        await client.set("k", "v")
        await client.get("k")
        await client.hgetall("h")
        await client.with_timeout(1).exists("k")
    assert Counting.calls == ["SET", "GET", "HGETALL", "EXISTS"]


async def test_response_callbacks(clean_server: EmbeddedServer) -> None:
    async def slowly(response: Any, **options: Any) -> Any:
        await asyncio.sleep(0)
        return "slow", response, options

    async with client_at(clean_server) as client:
        await client.set("k", "7")
        client.set_response_callback("GET", lambda response, **_: int(response))
        assert await client.get("k") == 7
        assert await client.execute_command("get", "k") == 7
        client.response_callbacks["GET"] = slowly
        assert await client.get("k") == ("slow", b"7", {})
        assert await client.with_timeout(1).execute_command("GET", "k", more=1) == (
            "slow",
            b"7",
            {"more": 1},
        )
        async with client.pipeline(transaction=False) as pipe:
            pipe.get("k")
            assert await pipe.execute() == [("slow", b"7", {})]
        assert await client.ping() is True  # undisturbed


@pytest.mark.parametrize("is_async", [False, True])
async def test_a_callback_that_fails_says_that_it_was_executed(
    clean_server: EmbeddedServer, is_async: bool
) -> None:
    def fails(response: Any, **_: Any) -> Any:
        raise KeyError(response)

    async def fails_later(response: Any, **_: Any) -> Any:
        await asyncio.sleep(0)
        raise KeyError(response)

    async with client_at(clean_server) as client:
        client.set_response_callback("INCRBY", fails_later if is_async else fails)
        with pytest.raises(KeyError) as failure:
            await client.incr("n")
        assert outcome_of(failure.value) is Outcome.EXECUTED
        assert await client.get("n") == b"1"


# --- decoding ---


async def test_decode_responses(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server, decode_responses=True) as client:
        await client.hset("h", mapping={"é": "ü"})
        assert await client.hgetall("h") == {"é": "ü"}
        assert await client.lrange("none", 0, -1) == []
        await client.set("raw", b"\xff")
        with pytest.raises(UnicodeDecodeError) as failure:
            await client.get("raw")
        assert outcome_of(failure.value) is Outcome.EXECUTED
        assert await client.echo("next") == "next"


async def test_what_is_never_decoded(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server, decode_responses=True) as client:
        await client.set("k", b"\xff\xfe")
        dumped = await client.dump("k")
        assert isinstance(dumped, bytes)
        assert await client.restore("copy", 0, dumped) == "OK"
        assert await client.copy("copy", "k2") is True
        async with client_at(clean_server) as raw:
            assert await raw.get("k2") == b"\xff\xfe"


async def test_an_empty_response_stands_for_the_error(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        await client.set("k", "not a list")
        answer = await client.execute_command("LLEN", "k", EMPTY_RESPONSE="instead")
        assert answer == "instead"
        async with client.pipeline(transaction=False) as pipe:
            pipe.execute_command("LLEN", "k", EMPTY_RESPONSE=0)
            pipe.get("k")
            assert await pipe.execute() == [0, b"not a list"]


async def test_another_encoding(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server, encoding="latin-1", decode_responses=True) as client:
        await client.set("clé", "été")
        assert await client.get("clé") == "été"
        with pytest.raises(UnicodeEncodeError) as failure:
            await client.set("k", "€")
        assert outcome_of(failure.value) is Outcome.NOT_SENT
    async with client_at(clean_server) as raw:
        assert await raw.keys() == ["clé".encode("latin-1")]


async def test_errors_in_decoding_can_be_replaced(clean_server: EmbeddedServer) -> None:
    options: dict[str, Any] = {"decode_responses": True, "encoding_errors": "replace"}
    async with client_at(clean_server, **options) as client:
        await client.set("k", b"a\xffb")
        assert await client.get("k") == "a�b"


# --- the shapes of replies, as redis-py itself gives them ---


async def replies(client: Any) -> Mapping[str, Any]:
    """Commands whose replies differ between RESP2 and RESP3 or between shapes."""
    await client.flushdb()
    await client.hset("h", mapping={"a": "1"})
    await client.zadd("z", {"a": 1.5, "b": 2})
    await client.sadd("s", "m")
    await client.xadd("x", {"f": "v"}, id="1-1")
    await client.geoadd("g", (13.361389, 38.115556, "Palermo"))
    async with client.pipeline() as pipe:
        pipe.hgetall("h").zrange("z", 0, -1, withscores=True).smembers("s").zscore("z", "a")
        in_pipeline = await pipe.execute()
    return {
        "pipeline": in_pipeline,
        "hgetall": await client.hgetall("h"),
        "hrandfield": await client.hrandfield("h", 1, withvalues=True),
        "zrange": await client.zrange("z", 0, -1, withscores=True),
        "zscore": await client.zscore("z", "a"),
        "zmscore": await client.zmscore("z", ["a", "none"]),
        "zpopmin": await client.zpopmin("z"),
        "zincrby": await client.zincrby("z", 1.25, "b"),
        "smembers": await client.smembers("s"),
        "sismember": await client.sismember("s", "m"),
        "xread": await client.xread({"x": "0"}),
        "xinfo": await client.xinfo_stream("x"),
        "geopos": await client.geopos("g", "Palermo"),
        "geodist": await client.geodist("g", "Palermo", "Palermo"),
        "config": await client.config_get("maxmemory-policy"),
        "acl": (await client.acl_getuser("default"))["enabled"],
        "scan": await client.hscan("h"),
        "blpop": await client.bzpopmin("z", 1),
        "lmpop": await client.lmpop(1, "nolist", direction="LEFT"),
        "expire": await client.expire("h", 100),
        "object": await client.object("refcount", "h"),
    }


@pytest.mark.parametrize("protocol", [None, 2, 3])
@pytest.mark.parametrize("legacy", [True, False])
@pytest.mark.parametrize("decode", [True, False])
@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_replies_have_redis_pys_shapes(
    clean_server: EmbeddedServer, protocol: int | None, legacy: bool, decode: bool
) -> None:
    options: dict[str, Any] = {
        "protocol": protocol,
        "legacy_responses": legacy,
        "decode_responses": decode,
    }
    theirs = redis.asyncio.Redis.from_url(clean_server.url, **options)
    async with theirs, client_at(clean_server, **options) as ours:
        expected = await replies(theirs)
        assert await replies(ours) == expected
    async with pool_at(clean_server) as pool:  # the same shapes, on RESP3's wire
        assert await replies(pool.make_client(**options)) == expected


@pytest.mark.parametrize("protocol", [None, 3])
@pytest.mark.parametrize("legacy", [True, False])
async def test_shapes_stay_where_the_server_knows_no_hello(
    start_server: StartServer, protocol: Any, legacy: bool
) -> None:
    server = await start_server(config={"rename-command": 'HELLO ""'})
    options: dict[str, Any] = {"protocol": protocol, "legacy_responses": legacy}
    # What redis-py makes of RESP2's wire when it is told that it is RESP2's.
    theirs = redis.asyncio.Redis.from_url(server.url, protocol=2, legacy_responses=legacy)
    async with theirs, client_at(server, **options) as ours:
        expected = await replies(theirs)
        assert await replies(ours) == expected
    async with pool_at(server) as pool:
        assert await replies(pool.make_client(**options)) == expected


# --- what is refused ---


@pytest.mark.parametrize("value", [True, None, object(), ["list"], {"a": 1}])
async def test_an_argument_that_cannot_be_sent_disturbs_nobody(
    clean_server: EmbeddedServer, value: Any
) -> None:
    async with client_at(clean_server) as client:
        await client.set("k", "v")
        answers = await asyncio.gather(
            client.get("k"),
            client.set("k", value),
            client.incr("n"),
            client.execute_command("SET", value, "x"),
            client.get("k"),
            return_exceptions=True,
        )
        assert [answers[0], answers[2], answers[4]] == [b"v", 1, b"v"]
        for answer in (answers[1], answers[3]):
            assert isinstance(answer, redis.DataError)
            assert outcome_of(answer) is Outcome.NOT_SENT


@pytest.mark.parametrize(
    ("command", "advice"),
    [
        (("SELECT", 1), "create_redis_pool(database="),
        (("AUTH", "secret"), "password"),
        (("WATCH", "k"), "pipeline()"),
        (("MULTI",), "pipeline(transaction=True)"),
        (("SUBSCRIBE", "c"), "pubsub()"),
        (("MONITOR",), "monitor()"),
        (("CLIENT", "REPLY", "OFF"), "pool.get()"),
        (("CLIENT REPLY", "OFF"), "pool.get()"),
        ((b"client", b"reply", b"off"), "pool.get()"),
        (("HELLO", 2), "authenticate by themselves"),
        (("RESET",), "pool.get()"),
        (("QUIT",), "close"),
    ],
)
async def test_what_changes_a_connection_is_refused_on_a_shared_one(
    clean_server: EmbeddedServer, command: tuple[Any, ...], advice: str
) -> None:
    async with client_at(clean_server) as client:
        before = await client.client_id()
        with pytest.raises(NotSharable) as failure:
            await client.execute_command(*command)
        assert advice in str(failure.value)
        assert isinstance(failure.value, redis.DataError)
        assert outcome_of(failure.value) is Outcome.NOT_SENT
        assert "secret" not in str(failure.value)
        assert await client.client_id() == before


async def test_no_loop_is_a_clear_error() -> None:
    client = Redis()
    command = client.get("k")

    def outside() -> None:
        with pytest.raises(RuntimeError, match="loop"):
            command.send(None)

    await asyncio.to_thread(outside)


async def test_monitor_takes_a_connection_of_its_own(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    async with client_at(clean_server) as client:
        async with client.monitor() as monitor:
            await client.set("seen", "1")
            async with asyncio.timeout(5):
                async for event in monitor.listen():
                    if event["command"] == "SET seen 1":
                        break
        assert await client.get("seen") == b"1"
