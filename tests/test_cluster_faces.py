"""A cluster's client is redis-py's ``Redis`` and has the face of its ``RedisCluster``."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
import redis.asyncio
import redis.asyncio.cluster
import redis.cluster
from redis.exceptions import DataError, RedisClusterException, RedisError, SlotNotCoveredError

import redisutils
from redisutils import ConfigError, CrossSlot, NotSharable, Redis, RedisCluster
from redisutils.testing import EmbeddedCluster, EmbeddedServer

from .clusters import cluster_pool, empty
from .ours import client_at

Client = Any
TheirNode: Any = redis.cluster.ClusterNode
Calls = list[Callable[[Client], Any]]


@pytest.fixture(scope="module")
def running(server_kind: str) -> Iterator[EmbeddedCluster]:
    """Three primaries with a replica each."""
    with EmbeddedCluster(3, 1, server_kind) as cluster:
        yield cluster


@pytest.fixture
def cluster(running: EmbeddedCluster) -> EmbeddedCluster:
    empty(running)
    return running


def at(cluster: EmbeddedCluster, **options: Any) -> dict[str, Any]:
    node = cluster.nodes[0]
    return {"host": node.host, "port": node.port, "password": cluster.password, **options}


@pytest.fixture
async def client(cluster: EmbeddedCluster) -> AsyncIterator[RedisCluster]:
    async with RedisCluster(**at(cluster)) as client:
        yield client


@pytest.fixture
async def theirs(cluster: EmbeddedCluster) -> AsyncIterator[redis.asyncio.RedisCluster]:
    async with redis.asyncio.RedisCluster(**at(cluster)) as client:
        yield client


# -- the same as redis-py's ------------------------------------------------------------------

PRIMARIES, REPLICAS, ALL = RedisCluster.PRIMARIES, RedisCluster.REPLICAS, RedisCluster.ALL_NODES

SAME: Calls = [
    # Data.
    lambda r: r.set("k", "v"),
    lambda r: r.get("k"),
    lambda r: r.mset_nonatomic({f"k{number}": number for number in range(20)}),
    lambda r: r.mget_nonatomic("k1", "k2", "nothing", "k3"),
    lambda r: r.mget_nonatomic(["k1", "k2"]),
    lambda r: r.exists("k", "k1", "k2", "nothing"),
    lambda r: r.touch("k", "k1"),
    lambda r: r.delete("k", "k1", "nothing"),
    lambda r: r.unlink("k2", "k3"),
    lambda r: r.hset("{h}1", mapping={"a": 1}),
    lambda r: r.hgetall("{h}1"),
    lambda r: r.zadd("{h}2", {"a": 1, "b": 2}),
    lambda r: r.zrange("{h}2", 0, -1, withscores=True),
    # Of many nodes.
    lambda r: r.ping(),
    lambda r: r.ping(target_nodes=ALL),
    lambda r: r.ping(target_nodes=r.get_primaries()[0]),
    lambda r: r.dbsize(target_nodes=PRIMARIES),
    lambda r: r.dbsize(target_nodes=[r.get_primaries()[0]]),
    lambda r: r.config_get("maxmemory", target_nodes=PRIMARIES),
    lambda r: r.config_get("maxmemory", target_nodes=r.get_primaries()[1]),
    lambda r: r.config_get("maxmemory", target_nodes=r.get_primaries()[:1]),
    lambda r: r.config_get("maxmemory", target_nodes=r.get_primaries()[:2]),
    lambda r: r.config_get("maxmemory", target_nodes={"any": r.get_primaries()[1]}),
    lambda r: r.config_get("maxmemory", target_nodes=RedisCluster.RANDOM),
    lambda r: r.config_get("maxmemory", target_nodes=RedisCluster.DEFAULT_NODE),
    lambda r: r.execute_command("OBJECT HELP", target_nodes=r.get_primaries()[0]),
    lambda r: r.keys("k1*", target_nodes=PRIMARIES),
    lambda r: r.config_get("maxmemory", target_nodes=ALL),
    lambda r: r.config_set("maxmemory-samples", 5, target_nodes=ALL),
    lambda r: r.config_resetstat(target_nodes=PRIMARIES),
    lambda r: r.script_load("return 1"),
    lambda r: r.script_exists("e0e1f9fabfc9d4800c877a703b823ac0578ff8db", "0" * 40),
    lambda r: r.evalsha("e0e1f9fabfc9d4800c877a703b823ac0578ff8db", 1, "k"),
    lambda r: r.eval("return KEYS[1]", 1, "k"),
    lambda r: r.eval("return 7", 0),
    lambda r: r.script_flush(),
    lambda r: r.pubsub_channels(target_nodes=ALL),
    lambda r: r.pubsub_numsub("a", target_nodes=ALL),
    lambda r: r.pubsub_numpat(target_nodes=ALL),
    lambda r: r.pubsub_shardchannels(target_nodes=ALL),
    lambda r: r.pubsub_shardnumsub("a", target_nodes=ALL),
    lambda r: r.slowlog_reset(target_nodes=ALL),
    lambda r: r.client_getname(target_nodes=PRIMARIES),
    lambda r: r.scan(target_nodes=PRIMARIES, count=1000),
    lambda r: r.scan(target_nodes=r.get_primaries()[0], count=1000),
    lambda r: r.lastsave(target_nodes=r.get_primaries()[0]),
    lambda r: r.acl_whoami(target_nodes=PRIMARIES),
    lambda r: r.command_count(),
    # CLUSTER by name.
    lambda r: r.cluster_slots(),
    lambda r: r.cluster_slots(target_nodes=r.get_replicas()[0]),
    lambda r: r.cluster_myid(r.get_primaries()[1]),
    lambda r: r.cluster_keyslot("k"),
    lambda r: r.cluster_countkeysinslot(r.keyslot("k4")),
    lambda r: r.cluster_get_keys_in_slot(r.keyslot("k4"), 5),
    lambda r: r.cluster_count_failure_report("0" * 40),
    lambda r: r.cluster_save_config(r.get_primaries()),
    # What it knows.
    lambda r: sorted((one.name, one.host, one.port, one.server_type) for one in r.get_nodes()),
    lambda r: sorted(node.name for node in r.get_primaries()),
    lambda r: sorted(node.name for node in r.get_replicas()),
    lambda r: r.get_node_from_key("k").name,
    lambda r: r.get_node_from_key("k", replica=True).name,
    lambda r: r.get_node(node_name=r.get_primaries()[1].name).name,
    lambda r: r.get_node("127.0.0.1", r.get_primaries()[1].port).name,
    lambda r: r.get_node("localhost", r.get_primaries()[1].port).name,
    lambda r: r.get_node("127.0.0.1", 1),
    lambda r: r.get_node(node_name="127.0.0.1:1"),
    lambda r: r.get_default_node().server_type,
    lambda r: r.keyslot("{user}:1"),
    lambda r: r.get_encoder().decode_responses,
    lambda r: r.get_connection_kwargs()["password"],
    lambda r: sorted(r.NODE_FLAGS),
]


async def outcome(call: Callable[[Client], Any], client: Client) -> Any:
    try:
        answer = call(client)
        return await answer if hasattr(answer, "__await__") else answer
    except Exception as error:  # noqa: BLE001  # it is what is compared
        return type(error), str(error)


async def test_answers_are_redis_pys(
    client: RedisCluster, theirs: redis.asyncio.RedisCluster
) -> None:
    async def afresh(asked: Client, call: Callable[[Client], Any]) -> Any:
        await client.flushall()
        await client.script_flush()
        await client.mset({f"k{number}": number for number in range(10)})
        await client.script_load("return 1")
        return await outcome(call, asked)

    different = []
    for call in SAME:
        answers = await afresh(client, call), await afresh(theirs, call)
        if answers[0] != answers[1]:
            different.append(f"line {call.__code__.co_firstlineno}: {answers}")
    assert not different


@pytest.mark.parametrize("options", [{}, {"protocol": 3}, {"protocol": 2}], ids=str)
@pytest.mark.parametrize("decode", [False, True])
async def test_maps_look_the_same_in_each_protocol(
    cluster: EmbeddedCluster, options: dict[str, Any], decode: bool
) -> None:
    given = at(cluster, decode_responses=decode, **options)
    async with RedisCluster(**given) as ours, redis.asyncio.RedisCluster(**given) as theirs:
        node = cluster.nodes[0]
        for call in (
            lambda r: r.cluster_slots(),
            lambda r: r.cluster_shards(target_nodes=r.get_node(node.host, node.port)),
            lambda r: r.cluster_info(target_nodes=r.get_node(node.host, node.port)),
            lambda r: r.cluster_nodes(),
        ):
            mine, their = await outcome(call, ours), await outcome(call, theirs)
            assert type(mine) is type(their)
            assert shape_of(mine) == shape_of(their)


def shape_of(value: Any) -> Any:
    """A value without what changes from moment to moment: numbers, and what depends on who asks."""
    if isinstance(value, dict):
        # Of messages only the kinds are listed that have been sent by then.
        kept = {key: each for key, each in value.items() if "stats_messages" not in str(key)}
        return {key: shape_of(each) for key, each in sorted(kept.items(), key=str)}
    if isinstance(value, list | tuple):
        return sorted((shape_of(each) for each in value), key=str)
    return type(value)


async def test_pipelines_answer_as_redis_pys(
    client: RedisCluster, theirs: redis.asyncio.RedisCluster
) -> None:
    async def run(r: Client) -> list[Any]:
        await r.flushall()
        async with r.pipeline() as pipe:
            pipe.set("A", 1).get("A").hset("K", "F", "V").hgetall("K")
            pipe.mset_nonatomic({"A": 2, "B": 3}).get("A").get("B").exists("A")
            pipe.execute_command("GET", "B", target_nodes=r.get_node_from_key("B")).delete("K")
            assert len(pipe) == 11
            first: list[Any] = await pipe.execute()
            pipe.get("A").lpush("A", 1).get("B")
            assert pipe
            second = await pipe.execute(raise_on_error=False)
            return [*first, second[0], isinstance(second[1], redis.ResponseError), second[2]]

    assert await run(client) == await run(theirs)


# -- nodes ---------------------------------------------------------------------------------


async def test_a_client_is_both(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool:
        for one in (pool.client, pool.lane("bulk"), pool.make_client(decode_responses=True)):
            assert isinstance(one, RedisCluster)
            assert isinstance(one, redis.asyncio.Redis)
            assert isinstance(one, Redis)
        assert redisutils.RedisCluster is RedisCluster
        assert await pool.make_client(decode_responses=True).echo("x") == "x"


async def test_a_node_is_redis_pys_and_answers(client: RedisCluster) -> None:
    for node in client.get_nodes():
        assert isinstance(node, redis.asyncio.cluster.ClusterNode)
        assert node.name == f"{node.host}:{node.port}"
        role = await node.execute_command("ROLE")
        assert role[0] == {"primary": b"master", "replica": b"slave"}[str(node.server_type)]
        with pytest.raises(ConfigError, match=r"pool\.get"):
            node.acquire_connection()
        await node.disconnect()
    assert set(client.get_nodes()) == {*client.get_primaries(), *client.get_replicas()}
    assert client.get_random_node() in client.get_nodes()
    assert client.get_random_primary_node() in client.get_primaries()


async def test_nodes_are_known_from_the_first_command_on(cluster: EmbeddedCluster) -> None:
    client = RedisCluster(**at(cluster))
    assert client.get_nodes() == []
    assert client.get_default_node() is None
    with pytest.raises(RedisClusterException, match="any node"):
        client.get_random_node()
    with pytest.raises(SlotNotCoveredError):
        client.get_node_from_key("k")
    await client.get("k")
    assert len(client.get_nodes()) == 6
    await client.aclose()


async def test_targets_are_named_in_many_ways(client: Client) -> None:
    node = client.get_replicas()[0]
    other = TheirNode(node.host, node.port)
    answers = [
        await client.execute_command("ROLE", target_nodes=target)
        for target in (node, node.name, (node.host, node.port), other, [node], {"x": node})
    ]
    assert all(answer[0] == b"slave" for answer in answers)
    both = await client.execute_command("ROLE", target_nodes=[node, client.get_primaries()[0]])
    assert sorted(both) == sorted([node.name, client.get_primaries()[0].name])
    for name in REPLICAS, ALL:
        names = {
            one.name for one in client.get_nodes() if name == ALL or one in client.get_replicas()
        }
        assert (await client.execute_command("ROLE", target_nodes=name)).keys() == names
    with pytest.raises(ConfigError, match=r"^target_nodes='everywhere': .*host:port"):
        await client.ping(target_nodes="everywhere")
    with pytest.raises(ConfigError, match=r"^target_nodes=3: "):
        await client.ping(target_nodes=3)
    with pytest.raises(RedisClusterException, match=r"127\.0\.0\.1:1' is not in") as failure:
        await client.ping(target_nodes="127.0.0.1:1")
    assert isinstance(failure.value, ConfigError)
    assert str(failure.value).startswith("target_nodes='127.0.0.1:1' ")
    assert redisutils.outcome_of(failure.value) is redisutils.Outcome.NOT_SENT


async def test_a_key_at_the_wrong_node_is_found_all_the_same(client: RedisCluster) -> None:
    await client.set("k", "v")
    owner = client.get_node_from_key("k")
    for node in client.get_primaries():
        assert await client.execute_command("GET", "k", target_nodes=node) == b"v"
    assert owner in client.get_primaries()


async def test_a_failure_at_one_node_says_who_did_it(client: RedisCluster) -> None:
    with pytest.raises(redis.ResponseError, match=r"CONFIG SET of 3: .*not by") as failure:
        await client.config_set("databases", 1, target_nodes=PRIMARIES)
    assert redisutils.outcome_of(failure.value) is redisutils.Outcome.REJECTED


async def test_a_default_node_answers_what_any_could(client: Client) -> None:
    for node in client.get_nodes():
        client.set_default_node(node)
        assert client.get_default_node() == node
        ports = [(await client.info("server"))["tcp_port"] for _ in range(4)]
        assert ports == [node.port] * 4
        assert await client.set("k", "v")
        assert await client.get("k") == b"v"
        assert await client.dbsize() == 1
    for wrong in (None, TheirNode("127.0.0.1", 1)):
        with pytest.raises(DataError):
            client.set_default_node(wrong)


async def test_scans_of_all_nodes_and_of_certain_ones(client: RedisCluster) -> None:
    keys = {f"k{number}" for number in range(200)}
    await client.mset_nonatomic(dict.fromkeys(keys, 1))
    assert {key.decode() async for key in client.scan_iter(count=10)} == keys
    parts = [
        [key async for key in client.scan_iter(count=10, target_nodes=node)]
        for node in client.get_primaries()
    ]
    assert sum(map(len, parts)) == 200
    assert all(parts)
    every = [key async for key in client.scan_iter(count=10, target_nodes=PRIMARIES)]
    assert sorted(every) == sorted(key for part in parts for key in part)


# -- what is refused, and how ------------------------------------------------------------------


async def test_what_one_connection_has_is_refused_for_a_cluster(client: RedisCluster) -> None:
    for command in (("SELECT", 1), ("MULTI",), ("READONLY",), ("CLIENT", "REPLY", "OFF")):
        with pytest.raises(NotSharable):
            await client.execute_command(*command)
    with pytest.raises(NotSharable, match=r"pool\.get"):
        await client.execute_command("BLPOP", "k", 1, target_nodes=ALL)
    with pytest.raises(NotSharable):
        await client.readonly(target_nodes="replicas")
    with pytest.raises(RedisClusterException):
        client.swapdb(0, 1)


async def test_a_client_of_its_own_connections(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool, pool.client.client() as single:
        assert isinstance(single, RedisCluster)
        await asyncio.gather(*(single.set(f"k{number}", number) for number in range(20)))
        assert await single.mget([f"k{number}" for number in range(3)]) == [b"0", b"1", b"2"]
        assert await single.dbsize() == 20
        assert len(await single.echo("x", target_nodes=PRIMARIES)) == 3
        with pytest.raises(NotSharable, match=r"pool\.get\(key="):
            await single.execute_command("WATCH", "k1")
        transaction: Any = single.pipeline(transaction=True)
        async with transaction as pipe:
            await pipe.watch("k1")
            pipe.multi()
            pipe.incr("k1")
            assert await pipe.execute() == [2]


async def test_pipelines_are_transactions_as_the_client_was_made(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster) as pool, RedisCluster(**at(cluster)) as own_client:
        shared: Client = pool.client
        own: Client = own_client
        for client, atomic in ((shared, True), (own, False)):
            pipe = client.pipeline()
            assert bool(pipe.is_transaction) is atomic
            assert pipe.cluster_client is client
            assert await pipe.initialize() is pipe
            assert bool(client.client().pipeline().is_transaction) is atomic
        with pytest.raises(CrossSlot, match="'a' of SET"):
            await shared.pipeline().set("a", 1).set("b", 1).execute()
        assert await own.pipeline().set("a", 1).set("b", 1).execute() == [True, True]
        pair = shared.pipeline().set("{x}a", 1).get("{x}a")
        assert await pair.execute() == [True, b"1"]
        with pytest.raises(ConfigError, match="transaction=False"):
            shared.pipeline().ping(target_nodes=ALL)
        with pytest.raises(ConfigError, match="allow_redirections"):
            await own.pipeline().get("a").execute(allow_redirections=False)
        refused = own.pipeline().get("a").echo("x", target_nodes="127.0.0.1:1")
        with pytest.raises(RedisClusterException, match=r"Command # 2"):
            await refused.execute()


async def test_transactions_with_watch(client: RedisCluster) -> None:
    await client.set("{x}n", 1)

    async def double(pipe: Any) -> None:
        value = int(await pipe.get("{x}n"))
        pipe.multi()
        pipe.set("{x}n", value * 2)

    assert await client.transaction(double, "{x}n") == [True]
    assert await client.get("{x}n") == b"2"


async def test_a_client_of_one_server_has_no_targets(clean_server: EmbeddedServer) -> None:
    async with client_at(clean_server) as client:
        with pytest.raises(ConfigError, match="REDIS_MODE=cluster"):
            await client.ping(target_nodes=ALL)
        assert await client.ping(target_nodes=None)


async def test_redis_in_cluster_mode_is_the_plain_face(cluster: EmbeddedCluster) -> None:
    """``Redis(mode="cluster")`` has redis-py's ``Redis``'s face, and all that works by itself."""
    nodes = [(node.host, node.port) for node in cluster.nodes]
    client: Client = Redis(mode="cluster", nodes=nodes, password=cluster.password)
    async with client, client.pubsub() as pubsub:
        assert await client.mset({"a": 1, "b": 2})
        assert await client.dbsize() == 2
        await pubsub.ssubscribe("a", "b", "c")
        for _ in range(3):
            assert (await pubsub.get_message(timeout=5))["type"] == "ssubscribe"
        with pytest.raises(ConfigError, match="RedisCluster"):
            await client.ping(target_nodes=ALL)


# -- arguments ---------------------------------------------------------------------------------


async def test_ways_to_make_one(cluster: EmbeddedCluster) -> None:
    nodes = [redis.asyncio.cluster.ClusterNode(node.host, node.port) for node in cluster.nodes[:2]]
    first = cluster.nodes[0]
    password = cluster.password
    clients = [
        RedisCluster(startup_nodes=nodes, password=password),
        RedisCluster(startup_nodes=[f"{first.host}:{first.port}"], password=password),
        RedisCluster(startup_nodes=[(first.host, first.port)], password=password),
        RedisCluster(first.host, first.port, password=password),
        RedisCluster("127.0.0.1", 1, startup_nodes=nodes, password=password),
        RedisCluster.from_url(first.url),
        RedisCluster.from_url(f"redis+cluster://:{password}@{first.host}:{first.port}"),
        RedisCluster(
            **at(cluster),
            require_full_coverage=False,
            dynamic_startup_nodes=False,
            reinitialize_steps=10,
            cluster_error_retry_attempts=7,
            max_connections=20,
        ),
    ]
    for client in clients:
        assert await client.set("k", "v")
        assert len((await client).get_nodes()) == 6
        await client.aclose()
    assert clients[-1]._source.settings.retry.max_retries == 7
    assert clients[-1]._source.settings.max_size == 20


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "startup_nodes"),
        ({"host": "h", "path": "/x"}, "path= cannot"),
        ({"host": "h", "policy_resolver": object()}, "policy_resolver= cannot"),
        ({"host": "h", "address_remap": lambda at: at}, "address_remap= cannot.*address_map="),
        ({"host": "h", "mode": "sentinel"}, "mode='sentinel'"),
        ({"host": "h", "retry_on_error": [OSError]}, "retry_on_error=.*cannot"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, dict) else "",
)
def test_what_cannot_be_honoured_is_refused_by_name(options: dict[str, Any], words: str) -> None:
    make: Any = RedisCluster
    with pytest.raises(ConfigError, match=words):
        make(**options)


def test_unknown_arguments_are_none_of_ours() -> None:
    make: Any = RedisCluster
    with pytest.raises(TypeError, match="nonsense"):
        make(host="h", nonsense=1)


@pytest.mark.parametrize(
    "options",
    [
        {"read_from_replicas": True},
        {"load_balancing_strategy": redis.cluster.LoadBalancingStrategy.ROUND_ROBIN},
        {"read_from": "prefer-replica"},
    ],
    ids=str,
)
def test_reads_from_replicas_are_asked_for_as_redis_py_has_it(options: dict[str, Any]) -> None:
    source: Any = RedisCluster(host="h", **options)._source
    assert source._plan.reading.source == "prefer-replica"
    assert (plain := RedisCluster(host="h")._source) is not None
    assert vars(plain)["_plan"].reading.source == "primary"


# -- what stands on a client -------------------------------------------------------------------


async def test_errors_have_their_outcome(client: RedisCluster) -> None:
    await client.set("k", "v")
    with pytest.raises(RedisError) as failure:
        await client.lpush("k", 1)
    assert redisutils.outcome_of(failure.value) is redisutils.Outcome.REJECTED


async def test_many_tasks_on_certain_nodes(client: RedisCluster) -> None:
    async def ask(number: int) -> Any:
        node = client.get_primaries()[number % 3]
        return (await client.info("server", target_nodes=node))["tcp_port"], node.port

    calls: list[Awaitable[Any]] = [ask(number) for number in range(60)]
    assert all(port == expected for port, expected in await asyncio.gather(*calls))
