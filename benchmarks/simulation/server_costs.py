"""What clients cost a server, measured on one of our own: ``simulate_cluster.py --measure``.

Not part of the simulation, whose numbers must come out the same everywhere: ``COSTS`` holds what
was measured once, and :func:`measure` shows what your machine says.
"""

from __future__ import annotations

import asyncio
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import redis

from redisutils import create_redis_pool
from redisutils.testing import EmbeddedCluster, EmbeddedServer

_CONNECTIONS = 500
_PIPELINE = 100
_SETTLING = 12.0
"""Seconds after which a server has taken back what it lends to busy clients."""

_CALLS = 2_000


@dataclass(frozen=True)
class Costs:
    """Of one server; seconds are its processor's."""

    connect: float
    """To accept, authenticate and name a connection of ours, without TLS."""
    connect_tls: float
    """The same with TLS 1.3 and an ECDSA certificate; with RSA of 2,048 bits a third more."""
    look: float
    """To answer a look at the map: CLUSTER INFO and CLUSTER SHARDS, read and written."""
    shard_bytes: float
    """Of CLUSTER SHARDS, for each node in it."""
    idle_bytes: float
    """That a connection takes when nothing has been asked on it for a while."""
    busy_bytes: float
    """The same while pipelines run on it."""


COSTS = Costs(
    connect=200e-6,
    connect_tls=1_400e-6,
    look=60e-6,
    shard_bytes=310,
    idle_bytes=4_000,
    busy_bytes=34_000,
)
"""Valkey 9.1 (TLS: Redis 7.0) on a virtual machine's core, rounded up."""


def measure() -> dict[str, float]:
    """Measure what :class:`Costs` is made of; seconds and bytes by name."""
    found = {}
    with EmbeddedServer(config={"save": ""}) as server, ExitStack() as stack:
        admin = stack.enter_context(_client(server))
        before = _info(admin)
        clients = []
        for _ in range(_CONNECTIONS):
            client = stack.enter_context(_client(server))
            client.connection_pool.get_connection().connect()
            clients.append(client)
        after = _info(admin)
        found["connect"] = (_cpu(after) - _cpu(before)) / _CONNECTIONS
        found["fresh_bytes"] = (after["used_memory"] - before["used_memory"]) / _CONNECTIONS
        found["fresh_rss_bytes"] = _rss(after, before)
        for client in clients:
            _load(client)
        busy = _info(admin)
        found["busy_bytes"] = (busy["used_memory"] - before["used_memory"]) / _CONNECTIONS
        found["busy_client_list_bytes"] = _listed(admin)
        asyncio.run(asyncio.sleep(_SETTLING))
        idle = _info(admin)
        found["idle_bytes"] = (idle["used_memory"] - before["used_memory"]) / _CONNECTIONS
        found["idle_client_list_bytes"] = _listed(admin)
        found["idle_rss_bytes"] = _rss(idle, before)
    found["own_connect"] = asyncio.run(_own_connect())
    for primaries in (3, 12):
        found.update(_maps(primaries))
    return found


def _rss(after: dict[str, Any], before: dict[str, Any]) -> float:
    return float(after["used_memory_rss"] - before["used_memory_rss"]) / _CONNECTIONS


def _client(server: EmbeddedServer) -> redis.Redis:
    return redis.Redis(
        host=server.host, port=server.port, password=server.password, client_name="measured"
    )


def _info(admin: redis.Redis) -> dict[str, Any]:
    facts: dict[str, Any] = admin.info()
    return facts


def _cpu(facts: dict[str, Any]) -> float:
    return float(facts["used_cpu_sys"]) + float(facts["used_cpu_user"])


def _load(client: redis.Redis) -> None:
    pipe = client.pipeline(transaction=False)
    for number in range(_PIPELINE):
        pipe.set(f"simulated:{number}", "x" * 100)
        pipe.get(f"simulated:{number}")
    pipe.execute()


def _listed(admin: redis.Redis) -> float:
    """Mean ``tot-mem`` of CLIENT LIST."""
    listed: Any = admin.client_list()
    sizes = [int(client["tot-mem"]) for client in listed if client["name"] == "measured"]
    return sum(sizes) / len(sizes)


async def _own_connect() -> float:
    """The server's processor time for a connection of ours, from SYN to ready, s."""
    async with EmbeddedServer(config={"save": ""}) as server:
        with _client(server) as admin:
            began = _cpu(_info(admin))
            for _ in range(_CONNECTIONS // 5):
                async with create_redis_pool(url=server.url) as pool:
                    await pool.client.ping()
            return (_cpu(_info(admin)) - began) / (_CONNECTIONS // 5)


def _maps(primaries: int) -> dict[str, float]:
    """Seconds and bytes of a look at the map."""
    with EmbeddedCluster(primaries, config={"save": ""}) as cluster:
        node = cluster.primaries[0]
        with _client(node) as admin:
            pipe = admin.pipeline(transaction=False)
            began = _cpu(_info(admin))
            for _ in range(_CALLS):
                pipe.execute_command("CLUSTER", "INFO")
                pipe.execute_command("CLUSTER", "SHARDS")
                pipe.execute()
            look = (_cpu(_info(admin)) - began) / _CALLS
        size = len(_raw(node, "SHARDS"))
    return {f"look_{primaries}": look, f"shard_bytes_{primaries}": size / primaries}


def _raw(node: EmbeddedServer, question: str) -> bytes:
    """The reply as it goes over the wire."""
    import socket

    with socket.create_connection((node.host, node.port)) as wire:
        wire.settimeout(0.3)
        wire.sendall(f"AUTH {node.password}\r\nCLUSTER {question}\r\n".encode())
        got = b""
        try:
            while chunk := wire.recv(1 << 20):
                got += chunk
        except TimeoutError:
            pass
    return got.removeprefix(b"+OK\r\n")
