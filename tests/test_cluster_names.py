"""Names that the nodes of a cluster announce, and that mean nothing here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from redis.exceptions import RedisError

from redisutils import (
    ConnectFailed,
    Outcome,
    RedisCluster,
    RedisPool,
    create_redis_pool,
    outcome_of,
)
from redisutils.connection.embedded import free_port
from redisutils.testing import EmbeddedCluster, EmbeddedServer, TLSFiles
from redisutils.topology.cluster.announced import ip_besides

from .clusters import cluster_pool, keys_of, told
from .ours import until
from .played_cluster import PlayedCluster, bulk, played_cluster

NOWHERE = "no-such-host.invalid"


@pytest.fixture
async def named(cluster: EmbeddedCluster) -> AsyncIterator[EmbeddedCluster]:
    """The nodes announce a name that nobody resolves."""
    names = ("cluster-announce-hostname", NOWHERE)
    for node in cluster.nodes:
        told(node, "CONFIG", "SET", *names, "cluster-preferred-endpoint-type", "hostname")

    def known() -> list[int]:
        return [str(told(node, "CLUSTER", "SHARDS")).count(NOWHERE) for node in cluster.nodes]

    await until(lambda: min(known()) > 5, "the name to be known to all")
    yield cluster
    for node in cluster.nodes:
        told(node, "CONFIG", "SET", names[0], "", "cluster-preferred-endpoint-type", "ip")
    await until(lambda: not any(known()), "the name to be forgotten by all")


async def works(cluster: EmbeddedCluster, **settings: Any) -> set[str]:
    """The hosts by which the nodes are known, after a command to each primary."""
    async with cluster_pool(cluster, command_timeout=5.0, **settings) as pool:
        for primary in cluster.primaries:
            key = next(keys_of(cluster, primary))
            assert await pool.client.set(key, key) is True
        assert isinstance(pool.client, RedisCluster)
        return {node.host for node in pool.client.get_nodes()}


async def test_they_are_found_at_the_address_that_is_told_besides(named: EmbeddedCluster) -> None:
    assert await works(named) == {NOWHERE}


async def test_they_are_translated(named: EmbeddedCluster) -> None:
    places = {(NOWHERE, node.port): (node.host, node.port) for node in named.nodes}
    assert await works(named, address_map=places) == {"127.0.0.1"}


def shown(host: str, port: int, ip: str | None = None) -> bytes:
    """A map with one node, which is called so."""
    besides = b"" if ip is None else b"*2\r\n" + bulk("ip") + bulk(ip)
    node = b"*%d\r\n" % (3 + bool(besides)) + bulk(host) + b":%d\r\n" % port
    return b"*1\r\n*3\r\n:0\r\n:16383\r\n" + node + bulk("1" * 40) + besides


@asynccontextmanager
async def announcing(
    told: bytes, **settings: Any
) -> AsyncIterator[tuple[PlayedCluster, RedisPool]]:
    """A cluster of one that tells this map."""
    async with played_cluster(1, max_retries=0, **settings) as (cluster, pool):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(cluster, "told", lambda _: told)
            yield cluster, pool


async def failing(pool: RedisPool) -> str:
    with pytest.raises(ConnectFailed) as caught:
        await pool.client.get("k")
    assert outcome_of(caught.value) is Outcome.NOT_SENT
    return str(caught.value)


async def test_who_announces_it_is_told_and_what_to_do() -> None:
    async with announcing(shown(NOWHERE, 7000)) as (cluster, pool):
        message = await failing(pool)
        seed = f"127.0.0.1:{cluster.nodes[0].port}"
        assert f"cannot connect to {NOWHERE}:7000: the name does not resolve" in message
        assert f"{seed} announces the node so" in message
        assert f"REDIS_ADDRESS_MAP={NOWHERE}:7000=" in message
        assert "address_map=" in message


async def test_an_address_besides_that_leads_nowhere_is_told() -> None:
    port = free_port()
    async with announcing(shown(NOWHERE, port, "127.0.0.1")) as (_, pool):
        message = await failing(pool)
        assert "the name does not resolve" in message
        assert "at the IP address 127.0.0.1" in message
        assert "connection refused" in message
        assert f"REDIS_ADDRESS_MAP={NOWHERE}:{port}=" in message


async def test_a_wrong_translation_is_told() -> None:
    given = {("10.0.0.1", 7000): (NOWHERE, 17000)}
    async with announcing(shown("10.0.0.1", 7000), address_map=given) as (_, pool):
        message = await failing(pool)
        assert f"cannot connect to {NOWHERE}:17000" in message
        assert "REDIS_ADDRESS_MAP (address_map=) says that 10.0.0.1:7000 is there" in message


async def test_a_translation_is_not_gone_round_by_the_address_besides() -> None:
    given = {("inside", 7000): (NOWHERE, 7000)}
    async with announcing(shown("inside", 7000, "127.0.0.1"), address_map=given) as (_, pool):
        message = await failing(pool)
        assert "REDIS_ADDRESS_MAP (address_map=) says that inside" in message


async def test_a_seed_is_nobodys_announcement(cluster: EmbeddedCluster) -> None:
    async with cluster_pool(cluster, nodes=[(NOWHERE, 7000)], max_retries=0) as pool:
        with pytest.raises(RedisError, match="the name does not resolve") as caught:
            await pool.client.get("k")
    assert "REDIS_ADDRESS_MAP" not in str(caught.value)


async def test_a_redirect_to_such_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    async with played_cluster(1, max_retries=0) as (cluster, pool):
        assert await pool.client.get("k") == b"k"
        cluster.said[0] = lambda _: b"-MOVED 7629 %b:7001\r\n" % NOWHERE.encode()
        monkeypatch.setattr(cluster, "told", lambda _: b"")  # no map says more
        with pytest.raises(ConnectFailed, match="another node, in a redirect,") as caught:
            await pool.client.get("k")
        assert outcome_of(caught.value) is Outcome.REJECTED
        assert f"cannot connect to {NOWHERE}:7001" in str(caught.value)


@pytest.mark.parametrize(
    ("host", "ip", "asked", "tried"),
    [
        ("node-1", "10.0.0.1", "10.0.0.9", "10.0.0.1"),
        ("node-1", "fd00::1", "10.0.0.9", "fd00::1"),
        ("node-1", "10.0.0.1", "seed.example", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1", "10.0.0.9", None),  # nothing else
        ("node-1", "", "10.0.0.9", None),  # it does not know
        ("node-1", None, "10.0.0.9", None),
        ("node-1", "0.0.0.0", "10.0.0.9", None),
        ("node-1", "node-1.local", "10.0.0.9", None),
        ("node-1", "127.0.0.1", "10.0.0.9", None),  # that is another machine's
        ("node-1", "127.0.0.1", "seed.example", None),
        ("node-1", "127.0.0.1", "localhost", "127.0.0.1"),
        ("node-1", "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("node-1", "::1", "::1", "::1"),
    ],
)
def test_which_address_besides_is_tried(
    host: str, ip: str | None, asked: str, tried: str | None
) -> None:
    assert ip_besides(host, ip, asked) == tried


# --- TLS: the certificate must be the name's ---


@pytest.fixture(params=["its name", "its address"])
def in_tls(
    request: pytest.FixtureRequest, server_kind: str, tmp_path: Path
) -> Iterator[tuple[EmbeddedServer, Path, bool]]:
    """A cluster of one that announces a name, and whether its certificate has it."""
    whole = request.param == "its name"
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1", *([NOWHERE] if whole else []))
    files = TLSFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    authority.cert_pem.write_to_path(str(files.ca))
    (tmp_path / "cert.pem").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    config = {
        "cluster-announce-hostname": NOWHERE,
        "cluster-announce-ip": "127.0.0.1",
        "cluster-preferred-endpoint-type": "hostname",
        "tls-cluster": "yes",
    }
    server = EmbeddedServer(server_kind, tls=files, role="cluster", config=config)
    try:
        server.__enter__()
    except ConnectFailed as error:
        if "tls" not in str(error).lower():
            raise
        pytest.skip(f"this {server_kind} is built without TLS")
    yield server, tmp_path / "ca.pem", whole
    server.__exit__(None, None, None)


async def test_the_certificate_must_have_the_name(
    in_tls: tuple[EmbeddedServer, Path, bool],
) -> None:
    server, authority, whole = in_tls
    told(server, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
    await until(lambda: "cluster_state:ok" in str(told(server, "CLUSTER", "INFO")), "all slots")
    pool = create_redis_pool(
        mode="cluster",
        nodes=[("127.0.0.1", server.tls_port)],
        password=server.password,
        tls_enabled=True,
        tls_ca_path=authority,
        max_retries=0,
    )
    async with pool:
        if whole:
            assert await pool.client.set("k", "v") is True
            return
        with pytest.raises(ConnectFailed, match="its certificate does not verify") as caught:
            await pool.client.set("k", "v")
        assert NOWHERE in str(caught.value)
