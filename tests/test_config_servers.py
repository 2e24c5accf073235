"""Settings of many servers: sentinels, clusters, replicas and addresses that are mapped.

URLs that are wrong, or contradict another setting, are all in ``test_config.py``.
"""

from __future__ import annotations

import copy
import pickle
import typing
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from redisutils import Redis, create_redis_pool
from redisutils.address import Address
from redisutils.client.adapter import AdapterPool
from redisutils.client.configured import connect_options, plan
from redisutils.client.source import LazySource
from redisutils.config import ConfigArgs, RedisConfig
from redisutils.errors import ConfigError
from redisutils.topology.plan import ClusterPlan, Plan, Reading, SentinelPlan
from redisutils.url import masked

from .canary import ENCODED, NEEDLE, SECRET, Search
from .surroundings import Setenv, config, refused

A, B, C = Address("a", 7000), Address("b", 7001), Address("::1", 7002)

pytestmark = pytest.mark.usefixtures("empty_surroundings")


def plan_of(found: RedisConfig) -> Plan | None:
    return plan(found, connect_options(found, None))


# Nodes


@pytest.mark.parametrize(
    "given",
    [
        "a:7000,b:7001,[::1]:7002",
        " a:7000 , b:7001,\t[::1]:7002 ",
        "a:7000,b:7001,a:7000,[::1]:7002",
        ["a:7000", "b:7001", "[::1]:7002"],
        (A, B, C),
        [("a", 7000), "b:7001", ("[::1]", 7002)],
    ],
)
def test_nodes_are_written_in_many_ways(given: object) -> None:
    found = config(mode="cluster", nodes=given)
    assert found.nodes == found.seeds == (A, B, C)
    assert all(isinstance(node, Address) for node in found.nodes)


def test_a_port_that_is_left_out_is_the_modes() -> None:
    assert config(mode="cluster", nodes="a,[::1]").nodes == (("a", 6379), ("::1", 6379))
    sentinels = config(mode="SENTINEL", nodes="a,b:5", sentinel_master="m")
    assert sentinels.nodes == (("a", 26379), ("b", 5))


def test_without_nodes_host_and_port_are_the_seed(env: Setenv) -> None:
    assert config(mode="cluster", host="a").seeds == (("a", 6379),)
    assert config(mode="cluster", host="a", port=7000).seeds == (A,)
    env(MODE="sentinel", HOST="a", SENTINEL_MASTER="m")
    assert config().seeds == (("a", 26379),)
    assert config(port=6379).seeds == (("a", 6379),)
    assert config().replace(command_timeout=3).seeds == (("a", 26379),)
    assert config().replace(mode="cluster").seeds == (("a", 6379),)


@pytest.mark.parametrize(
    ("nodes", "shown", "problem"),
    [
        ("a:x", "a:x", "its address no. 1: its port must be between 1 and 65,535"),
        ("a:1,b:0", "a:1,b:0", "its address no. 2: its port must be between 1 and 65,535"),
        ("a:1,,b:2", "a:1,,b:2", "its address no. 2: must be a host name or an IP address"),
        ("a:1,", "a:1,", "its address no. 2: must be a host name"),
        ("::1:7000", ":***", "its address no. 1: an IPv6 address is written in brackets"),
        ("[::1", "[::1", "an IPv6 address is written in brackets"),
        ("[a]:1", "[a]:1", "only an IPv6 address stands in brackets"),
        ("a:1;b:2", "a:***", "several addresses are separated by commas"),
        ("a:1 b:2", "a:***", "several addresses are separated by commas"),
        ("redis://a:1", "redis://a:1", "an IPv6 address is written in brackets"),
        ("a b:1", "a:***", "several addresses are separated by commas"),
        (["a:1", 7], "a:1,7", 'no. 2: must be "host:port" or (host, port)'),
        ([("a", 0)], "a:0", 'must be "host:port" or (host, port)'),
        ([("a", True)], "a:***", 'must be "host:port" or (host, port)'),
        ([("a:1", 7)], "[a:1]:7", "no. 1: must be a host alone"),
        (7, "***", "must be text, or a sequence of addresses"),
        ({"a": 1}, "***", "must be text, or a sequence of addresses"),
        (b"a:1", "***", "must be text, or a sequence of addresses"),
    ],
)
def test_wrong_nodes_are_named_shown_and_explained(nodes: Any, shown: str, problem: str) -> None:
    if not problem:
        assert config(mode="cluster", nodes=nodes).nodes
        return
    message = refused(mode="cluster", nodes=nodes)
    assert problem in message
    assert message.startswith("nodes=")
    if "{" not in repr(nodes):
        assert message.startswith(f"nodes={shown}: ")


def test_endpoint_says_what_is_meant() -> None:
    assert config(mode="cluster", nodes=[A]).endpoint == "the cluster of a:7000"
    many = config(mode="cluster", nodes=[(f"10.0.0.{n}", 7000) for n in range(1, 51)])
    assert many.endpoint == "the cluster of 10.0.0.1:7000, 10.0.0.2:7000, 10.0.0.3:7000, …"
    watched = config(mode="sentinel", nodes="a,[::1]:7002", sentinel_master="mymaster")
    assert watched.endpoint == "mymaster at sentinels a:26379, [::1]:7002"
    assert "mymaster" in repr(create_redis_pool(watched))


# The address map


@pytest.mark.parametrize(
    "given",
    [
        "10.0.0.1:7000=127.0.0.1:17000, [fd00::2]:7000=[::1]:17001",
        {"10.0.0.1:7000": "127.0.0.1:17000", ("fd00::2", 7000): ("::1", 17001)},
        [("10.0.0.1:7000", ("127.0.0.1", 17000)), "[fd00::2]:7000=[::1]:17001"],
    ],
)
def test_address_map_is_written_in_many_ways(given: object) -> None:
    found = config(mode="cluster", nodes="a", address_map=given)
    its_plan = plan_of(found)
    assert its_plan is not None
    assert its_plan.addresses == {
        Address("10.0.0.1", 7000): Address("127.0.0.1", 17000),
        Address("fd00::2", 7000): Address("::1", 17001),
    }


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ("a:1", "its pair no. 1 must be announced=reachable"),
        ("a:1=b:2,a:3=", "its address no. 2: needs a port"),
        ("a:1=b:2=c:3", "its pair no. 1 must be announced=reachable"),
        ("a=b:2", "its address no. 1: needs a port: host:port"),
        ("a:1=b", "its address no. 1: needs a port: host:port"),
        ("a:1=b:2,a:1=c:3", "names a:1 twice"),
        ({"a:1": "b:2", ("a", 1): "c:3"}, "names a:1 twice"),
        ([("a:1", "b:2", "c:3")], "its pair no. 1 must be announced=reachable"),
        ([7], "its pair no. 1 must be announced=reachable"),
        ({"a:1": None}, 'must be "host:port" or (host, port)'),
        (7, "must be text, or a sequence of addresses"),
    ],
)
def test_wrong_address_maps_are_explained(given: object, problem: str) -> None:
    message = refused(mode="cluster", address_map=given)
    assert message.startswith("address_map=")
    assert problem in message


def test_one_reachable_address_may_stand_for_several() -> None:
    found = config(mode="cluster", address_map="a:1=c:3,b:2=c:3")
    assert dict(found.address_map) == {("a", 1): ("c", 3), ("b", 2): ("c", 3)}


# URLs

SCHEMES = ["redis", "rediss", "valkey", "valkeys", "REDISS"]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_url_of_a_cluster(scheme: str) -> None:
    found = config(url=f"{scheme}+cluster://al:p%2C%40w@a:7000,b,[::1]:7002/3")
    assert found.mode == "cluster"
    assert found.nodes == (A, ("b", 6379), C)
    assert (found.username, found.current_password(), found.database) == ("al", "p,@w", 3)
    assert found.tls is (scheme.lower() in ("rediss", "valkeys"))
    assert found.sentinel_master is None
    assert isinstance(plan_of(found), ClusterPlan)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_url_of_a_primary_behind_sentinels(scheme: str) -> None:
    found = config(url=f"{scheme}+sentinel://:pw@a:7000,b/my%2Dmaster/3")
    assert found.mode == "sentinel"
    assert found.nodes == (A, ("b", 26379))
    assert (found.sentinel_master, found.database) == ("my-master", 3)
    assert (found.username, found.current_password()) == (None, "pw")
    assert found.tls is (scheme.lower() in ("rediss", "valkeys"))
    assert (found.sentinel_username, found.sentinel_password) == (None, None)


def test_urls_that_say_little(env: Setenv) -> None:
    assert config(url="redis+cluster://a?db=2").database == 2
    assert config(url="redis+sentinel://a/m/").database == 0
    assert config(url="redis+sentinel://a/m?db=2").database == 2
    env(SENTINEL_MASTER="m", SENTINEL_PASSWORD="pw", PASSWORD="pw2", DATABASE="1")
    found = config(url="redis+sentinel://:7000")
    assert (found.nodes, found.sentinel_master) == ((("localhost", 7000),), "m")
    assert (found.current_password(), found.database) == ("pw2", 1)


def test_a_url_of_one_server_is_silent_about_the_mode(env: Setenv) -> None:
    env(URL="rediss://al:pw@a:7000", MODE="cluster")
    found = config()
    assert (found.mode, found.seeds, found.tls) == ("cluster", (A,), True)


hosts = (
    st.from_regex(r"[a-z][a-z0-9.-]{0,20}[a-z0-9]", fullmatch=True)
    | st.ip_addresses(v=4).map(str)
    | st.ip_addresses(v=6).map(str)
)
some_nodes = st.lists(st.builds(Address, hosts, st.integers(1, 65_535)), min_size=1, max_size=5)
words = st.none() | st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
relaxed = settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)


def as_url(
    scheme: str, nodes: list[Address], user: str | None, password: str | None, path: str
) -> str:
    login = quote(user or "", safe="") + (f":{quote(password, safe='')}" if password else "")
    return f"{scheme}://{login and login + '@'}{','.join(map(str, nodes))}{path}"


@given(
    nodes=some_nodes, user=words, password=words, database=st.integers(0, 999), many=st.booleans()
)
@relaxed
def test_whatever_is_in_a_url_comes_back(
    nodes: list[Address], user: str | None, password: str | None, database: int, many: bool
) -> None:
    scheme, path = ("redis+sentinel", "/m/") if many else ("redis+cluster", "/")
    url = as_url(scheme, nodes, user, password, f"{path}{database}")
    found = RedisConfig(_env_file=None, url=url)
    assert found.nodes == tuple(dict.fromkeys(nodes))
    assert (found.username, found.current_password()) == (user, password)
    assert (found.database, found.sentinel_master) == (database, "m" if many else None)
    for again in (
        RedisConfig(_env_file=None, **typing.cast("ConfigArgs", found.model_dump())),
        found.replace(),
        copy.deepcopy(found),
        pickle.loads(pickle.dumps(found)),
    ):
        assert again == found
        assert hash(again) == hash(found)
        assert again.endpoint == found.endpoint


@given(
    text=st.text(),
    place=st.sampled_from(["user:{}@host:1", "user:{}@a:1,b:2", "a:1,user:{}@b:2", "a:1,b:{}"]),
    scheme=st.sampled_from(["redis+cluster", "rediss+sentinel", "valkey+x", "http+cluster"]),
)
@relaxed
def test_no_url_however_broken_shows_its_password(text: str, place: str, scheme: str) -> None:
    """In a port's place it hides from its first character on."""
    secret = f"abcdefgh{text}" if "@" not in place else f"{text}abcdefgh{text}"
    url = f"{scheme}://{place.format(secret)}"
    try:
        found = repr(RedisConfig(_env_file=None, url=url))
    except ConfigError as error:
        found = str(error)
    assert "abcdefgh" not in found
    assert "abcdefgh" not in masked(url)


# A URL that meets the separate settings, and levels that meet


def test_the_same_said_twice_is_no_contradiction(env: Setenv) -> None:
    env(
        URL="rediss+sentinel://al:p%40w@A:7000,b/m/3",
        MODE="Sentinel",
        NODES="b, a:7000",
        SENTINEL_MASTER="m",
        USERNAME="al",
        PASSWORD="p@w",
        DATABASE="3",
        TLS_ENABLED="true",
    )
    assert config().endpoint == "m at sentinels b:26379, a:7000"


def test_host_and_nodes_contradict_each_other(env: Setenv) -> None:
    env(MODE="cluster", NODES="a:1", HOST="b")
    assert refused() == "REDIS_HOST=b contradicts REDIS_NODES=a:1: set one of them"
    env(HOST="", PORT="7000")
    assert refused() == "REDIS_PORT=7000 contradicts REDIS_NODES=a:1: set one of them"
    env(PORT="", URL="redis://c")
    assert refused() == "REDIS_URL=redis://c contradicts REDIS_NODES=a:1: set one of them"
    env(PORT="tcp://10.0.0.1:6379", URL="")  # an orchestrator's
    assert config().nodes == (("a", 1),)


def test_a_place_in_the_constructor_drops_the_environments(env: Setenv) -> None:
    env(URL="rediss+cluster://al:pw@prod:7000,prod2:7000/3")
    for arguments in ({"host": "other"}, {"url": "redis://other"}):
        found = config(**arguments)
        assert (found.endpoint, found.nodes, found.mode) == ("other:6379", (), "standalone")
        assert (found.username, found.password, found.database) == (None, None, 0)
    found = config(mode="cluster", nodes="other:1")
    assert (found.nodes, found.password, found.tls) == ((("other", 1),), None, False)
    env(URL="", MODE="cluster", NODES="prod:7000", PASSWORD="pw")
    assert config(host="other").seeds == (("other", 6379),)
    assert config(url="redis://other").endpoint == "the cluster of other:6379"
    assert config(url="redis+cluster://other").nodes == (("other", 6379),)
    env(NODES="", HOST="prod", PORT="7000")
    found = config(nodes="other:1")
    assert (found.seeds, found.host, found.port) == ((("other", 1),), "localhost", 6379)
    assert config(nodes="").seeds == (("prod", 7000),)


def test_a_mode_in_the_constructor_drops_what_means_nothing_to_it(env: Setenv) -> None:
    env(
        MODE="sentinel",
        NODES="a,b",
        SENTINEL_MASTER="m",
        SENTINEL_PASSWORD="pw",
        READ_FROM="nearest",
        READ_ZONE="z",
        ADDRESS_MAP="a:1=b:2",
    )
    one = config(mode="standalone")
    assert one == RedisConfig(_env_file=None, mode="standalone").replace(**one.model_dump())
    assert (one.endpoint, one.read_from, one.address_map) == ("localhost:6379", "primary", ())
    cluster = config(mode="cluster")
    assert (cluster.seeds, cluster.read_zone) == ((("localhost", 6379),), "z")
    assert cluster.sentinel_password is None
    assert config(mode="sentinel").endpoint == "m at sentinels a:26379, b:26379"
    for local in ("unix:///x", "embedded://"):
        assert config(url=local).mode == "standalone"
    found = config(read_from="Primary")
    assert (found.read_zone, found.sentinel_master) == (None, "m")
    env(MODE="", NODES="", SENTINEL_MASTER="", URL="redis+sentinel://:pw@a/m")
    assert config(mode="sentinel").sentinel_master == "m"
    assert config(mode="cluster").current_password() is None
    assert config(mode="standalone").endpoint == "localhost:6379"
    assert config(sentinel_master="other").endpoint == "other at sentinels a:26379"


def test_a_changed_copy_goes_by_the_same_rules() -> None:
    cluster = config(url="redis+cluster://:pw@a:7000,b:7001", read_from="replica")
    assert cluster.replace(database=2).nodes == (A, B)
    assert cluster.replace(nodes=[C]).endpoint == "the cluster of [::1]:7002"
    assert cluster.replace(nodes=[C]).current_password() == "pw"
    assert cluster.replace(host="c").endpoint == "the cluster of c:6379"
    assert cluster.replace(mode="standalone", host="c").endpoint == "c:6379"
    assert cluster.replace(url="embedded://").embedded
    watched = config(url="redis+sentinel://a/m")
    assert watched.replace(sentinel_master="n").endpoint == "n at sentinels a:26379"


# What does not go together


MANY = "means nothing to one server; set REDIS_MODE to sentinel or cluster"
NO_SENTINELS = "means nothing without sentinels; set REDIS_MODE=sentinel"


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"nodes": "a:1"}, f"nodes=a:1: {MANY}"),
        ({"address_map": "a:1=b:2"}, f"address_map=a:1=b:2: {MANY}"),
        ({"address_map": {("a", 1): "b:2"}}, f"address_map=a:1=b:2: {MANY}"),
        ({"read_from": "replica"}, f"read_from=replica: {MANY}"),
        ({"read_zone": "z"}, f"read_zone=z: {MANY}"),
        ({"read_hedge": 0.1}, f"read_hedge=0.1: {MANY}"),
        ({"sentinel_master": "m"}, f"sentinel_master=m: {NO_SENTINELS}"),
        ({"sentinel_password": "pw"}, f"sentinel_password=***: {NO_SENTINELS}"),
        ({"mode": "cluster", "sentinel_username": "u"}, f"sentinel_username=u: {NO_SENTINELS}"),
        ({"mode": "sentinel"}, "mode=sentinel: needs REDIS_SENTINEL_MASTER"),
        ({"url": "redis+sentinel://a"}, "url=redis+sentinel://a: needs REDIS_SENTINEL_MASTER"),
        (
            {"url": "unix:///x", "mode": "cluster"},
            "mode=cluster: there is one server alone on url=unix:///x",
        ),
        (
            {"url": "embedded://", "mode": "sentinel"},
            "mode=sentinel: there is one server alone on url=embedded://",
        ),
    ],
)
def test_settings_that_do_not_go_together(arguments: dict[str, Any], problem: str) -> None:
    message = refused(**arguments)
    assert message.startswith(problem)
    assert "\n" not in message


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("mode", "redis", "must be standalone, sentinel or cluster"),
        ("read_from", "slave", "must be primary, replica, prefer-replica or nearest"),
        ("read_max_lag_seconds", "0", "must be greater than 0, or off"),
        ("read_own_writes_seconds", "-1", "must be 0 or more, or off"),
        ("read_hedge", "1.5", "must be between 0 and 1"),
        ("read_hedge", "5%", "must be a number between 0 and 1"),
        ("sentinel_master", "my master", "must be the name of a primary as the sentinels have it"),
    ],
)
def test_wrong_values(name: str, value: str, problem: str, env: Setenv) -> None:
    env(**{name.upper(): value})
    assert f"REDIS_{name.upper()}={value}: {problem}" in refused()


def test_what_says_nothing_is_no_trouble() -> None:
    found = config(
        mode="standalone",
        nodes="",
        address_map={},
        read_from="primary",
        read_max_lag_seconds="off",
        read_own_writes_seconds="off",
        read_hedge=0,
        read_zone="",
        sentinel_master="",
        sentinel_username=None,
        sentinel_password="",
    )
    assert found == RedisConfig()


def test_each_cause_is_told_once(env: Setenv) -> None:
    assert "\n" not in refused(mode="cluster", read_from="slave", read_zone="z")
    env(MODE="clusters", NODES="a:x", SENTINEL_MASTER="m")
    assert refused().splitlines() == [
        "2 settings are wrong:",
        "  REDIS_MODE=clusters: must be standalone, sentinel or cluster",
        "  REDIS_NODES=a:x: its address no. 1: its port must be between 1 and 65,535",
    ]


@pytest.mark.parametrize("port", ["b", "70000", "700000", "700O", "-7000", "6379/"])
def test_a_mistyped_port_is_shown(port: str, env: Setenv) -> None:
    env(MODE="cluster", NODES=f"a:1,b:{port},c:2")
    assert refused().startswith(f"REDIS_NODES=a:1,b:{port},c:2: its address no. 2")


@pytest.mark.parametrize("port", ["7000000", "bc", "7x0y", "swordfish", "1 2"])
def test_what_may_be_a_password_in_a_ports_place_is_hidden(port: str) -> None:
    assert refused(mode="cluster", nodes=f"a:1,b:{port},c:2").startswith("nodes=a:1,b:***: ")
    assert f"a:{port}" not in refused(url=f"redis+cluster://a:{port}")
    assert "a:b" not in refused(url="redis+sentinel://a:b/m")  # it may be cut off before its @


@pytest.mark.parametrize("mode", ["cluster", "sentinel"])
def test_nodes_that_name_nobody_are_not_this_machine(mode: str, env: Setenv) -> None:
    if mode == "sentinel":
        env(SENTINEL_MASTER="m")
    lists: tuple[Any, ...] = ([], ())
    for empty in lists:
        assert refused(mode=mode, nodes=empty).startswith(f"nodes={empty!r}: names no server")
        assert config(mode=mode, nodes=empty, host="a").seeds[0].host == "a"
    with pytest.raises(ConfigError, match="names no server"):
        config(mode=mode, nodes="a:1").replace(nodes=[])
    for rest in ("", ":pw@", "?db=1"):
        assert f": names no host: redis+{mode}://host:port" in refused(url=f"redis+{mode}://{rest}")
    assert config(mode=mode).seeds[0].host == "localhost"
    env(MODE=mode, NODES="")
    assert config().seeds[0].host == "localhost"


@pytest.mark.parametrize(
    ("name", "near"),
    [("startup_nodes", "nodes"), ("sentinels", "nodes"), ("master", "sentinel_master")],
)
def test_other_clients_names_lead_to_ours(name: str, near: str) -> None:
    assert f"did you mean {near}?" in refused(**{name: "x"})


# Plans


def test_one_server_needs_no_plan() -> None:
    for found in (config(), config(url="unix:///x"), config(url="embedded://")):
        assert plan_of(found) is None


def test_the_plan_of_a_cluster() -> None:
    found = config(
        mode="cluster",
        nodes=(A, B),
        read_from="nearest",
        read_max_lag_seconds=0.5,
        read_zone="eu-1",
        read_own_writes_seconds=2,
        read_hedge=0.05,
    )
    assert plan_of(found) == ClusterPlan((A, B), {}, Reading("nearest", 0.5, "eu-1", 2.0, 0.05))
    assert plan_of(config(mode="cluster")) == ClusterPlan((Address("localhost", 6379),))
    pool = create_redis_pool(found)
    assert pool._plan == plan_of(found)
    assert pool._options.host == "a"


async def test_the_plan_of_sentinels() -> None:
    found = config(
        url="redis+sentinel://al:pw@a,b:5/m/3",
        tls_enabled=True,
        sentinel_username="watcher",
        sentinel_password="s3cret",
        connection_timeout=2,
    )
    options = connect_options(found, None)
    its_plan = plan(found, options)
    assert isinstance(its_plan, SentinelPlan)
    assert its_plan.master == "m"
    assert [one.peer for one in its_plan.sentinels] == ["a:26379", "b:5"]
    assert len({id(one.dialect) for one in (*its_plan.sentinels, options)}) == 3
    for one in its_plan.sentinels:
        assert await one.credentials() == ("watcher", "s3cret")
        assert "s3cret" not in repr(await one.credentials())
        assert (one.database, one.timeout, one.tls) == (0, 2.0, options.tls)
        assert one.tls is not None
    assert await options.credentials() == ("al", "pw")
    assert options.database == 3


@pytest.mark.parametrize(
    ("arguments", "login"),
    [
        ({}, ()),
        ({"sentinel_password": "pw"}, ("pw",)),
        ({"sentinel_username": "u"}, ("u", "")),
    ],
)
async def test_the_servers_password_is_none_of_the_sentinels(
    arguments: dict[str, Any], login: tuple[str, ...]
) -> None:
    its_plan = plan_of(config(url="redis+sentinel://al:pw-of-servers@a/m", **arguments))
    assert isinstance(its_plan, SentinelPlan)
    assert await its_plan.sentinels[0].credentials() == login


# The client of its own


def lazy(client: Redis) -> LazySource:
    pool = client.connection_pool
    assert isinstance(pool, AdapterPool)
    assert isinstance(pool.source, LazySource)
    return pool.source


def test_a_client_of_a_cluster() -> None:
    client: Redis = Redis.from_url(
        "rediss+cluster://al:p%40w@a:7000,b:7001/2?socket_timeout=3", read_from="replica"
    )
    source = lazy(client)
    assert source._plan == ClusterPlan((A, B), {}, Reading("replica"))
    assert (source.options.peer, source.options.database) == ("a:7000", 2)
    assert source.options.tls is not None
    assert source.settings.command_timeout == 3.0
    assert client.connection_pool.connection_kwargs["password"] == "p@w"
    same: Redis = Redis(mode="cluster", nodes="a:7000,b:7001", address_map={"a:1": "b:2"})
    its_plan = lazy(same)._plan
    assert isinstance(its_plan, ClusterPlan)
    assert (its_plan.seeds, its_plan.addresses) == ((A, B), {("a", 1): ("b", 2)})
    assert lazy(Redis(host="a", port=7000, mode="cluster"))._plan == ClusterPlan((A,))


async def test_a_client_of_a_primary_behind_sentinels() -> None:
    client: Redis = Redis.from_url("redis+sentinel://:pw@a,b/m/2", sentinel_password="s3cret")
    its_plan = lazy(client)._plan
    assert isinstance(its_plan, SentinelPlan)
    assert its_plan.master == "m"
    assert [await one.credentials() for one in its_plan.sentinels] == [("s3cret",)] * 2
    alone = lazy(Redis(host="a", mode="sentinel", sentinel_master="m"))._plan
    assert isinstance(alone, SentinelPlan)
    assert alone.sentinels[0].peer == "a:26379"
    assert lazy(Redis())._plan is None


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"mode": "clusters"}, "mode='clusters' must be one of standalone, sentinel, cluster"),
        ({"nodes": "a:1"}, "nodes: means nothing with mode='standalone'"),
        ({"mode": "cluster", "sentinel_password": "x"}, "sentinel_password: means nothing with"),
        ({"mode": "sentinel"}, "needs sentinel_master"),
        ({"mode": "cluster", "read_from": "me"}, "read_from='me' must be one of primary,"),
        ({"mode": "cluster", "nodes": "a:x"}, "nodes: its address no. 1: its port must be"),
        ({"mode": "cluster", "address_map": "a:1"}, "address_map: its pair no. 1 must be"),
        ({"mode": "cluster", "unix_socket_path": "/x"}, "means nothing to a Unix socket"),
    ],
)
def test_wrong_arguments_of_a_client(arguments: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _ = Redis(**arguments)
    assert problem in str(caught.value)
    assert caught.value.__context__ is None


# Secrets


@pytest.mark.parametrize("make", [RedisConfig, create_redis_pool, RedisConfig().replace])
def test_no_secret_in_what_is_refused(make: Any, caplog: pytest.LogCaptureFixture) -> None:
    search = Search(caplog)
    url = f"redis+cluster://alice:{ENCODED}@h"
    for wrong in (
        {"url": f"{url}:0"},
        {"url": f"{url},b:{NEEDLE}"},
        {"url": f"redis+sentinel://alice:{NEEDLE}/x@h,b/m"},
        {"url": f"redis+sentinel://alice:{NEEDLE}@h,u:{NEEDLE}@b/m"},
        {"url": url, "password": f"another-{SECRET}"},
        {"mode": "cluster", "nodes": f"u:{SECRET}@h:1"},
        {"mode": "cluster", "nodes": [f"redis://u:{ENCODED}@h:1", f"redis://u:{ENCODED}@b:1"]},
        {"mode": "cluster", "nodes": [(f"u:{SECRET}@h", 1)]},
        {"mode": "cluster", "address_map": f"a:1=redis://u:{ENCODED}@h:1"},
        {"mode": "sentinel", "sentinel_password": SECRET},
        {"sentinel_password": SECRET, "mode": "cluster"},
        {"mode": "sentinel", "sentinel_master": "m", "sentinel_password": f"{SECRET}\udcff"},
        {"sentinel_passwort": SECRET},
    ):
        with pytest.raises(ConfigError) as caught:
            make(**wrong)
        search.look_at(str(list(wrong)), caught.value)
    assert search.leaks() == []


async def test_no_secret_in_what_is_right(caplog: pytest.LogCaptureFixture) -> None:
    search = Search(caplog)
    found = config(
        url=f"redis+sentinel://al:{ENCODED}@a,b/m", sentinel_password=SECRET, sentinel_username="w"
    )
    client: Redis = Redis.from_url(f"redis+sentinel://al:{ENCODED}@a/m", sentinel_password=SECRET)
    told = plan_of(found)
    assert isinstance(told, SentinelPlan)
    assert await told.sentinels[0].credentials() == ("w", SECRET)
    pool = create_redis_pool(found)
    search.look_at("right", found, pool, pool._plan, client, client.connection_pool)
    search.texts.append(("dump", str(found.model_dump()) + found.model_dump_json()))
    assert search.leaks() == []
