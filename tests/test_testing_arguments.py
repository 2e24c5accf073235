"""What the testing kit is told wrong is refused at once, and the text says what would be right."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from redisutils.errors import ConfigError
from redisutils.testing import (
    EmbeddedCluster,
    EmbeddedReplication,
    EmbeddedSentinels,
    EmbeddedServer,
)

OWNED: dict[str, str | int] = {
    "bind": "0.0.0.0",
    "cluster-enabled": "yes",
    "cluster-port": 17000,
    "daemonize": "yes",
    "dir": "/",
    "logfile": "/nowhere/log",
    "port": 7777,
    "requirepass": "guess",
    "supervised": "systemd",
    "tls-port": 7778,
    "unixsocket": "/nowhere/socket",
    "unixsocketperm": 777,
}


@pytest.mark.parametrize("directive", OWNED)
def test_what_the_kit_sets_itself_is_not_overridden(directive: str) -> None:
    message = f"config: {directive!r} is set by EmbeddedServer itself: "
    for name in (directive, directive.upper(), f" {directive} 1"):
        with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
            EmbeddedServer(config={name: OWNED[directive]})
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        EmbeddedReplication(config={directive: OWNED[directive]})


WRONG: dict[str, Callable[[], object]] = {
    "config must be a mapping of directives, not str": lambda: server(config="maxmemory 1mb"),
    "config='' must have a directive's name": lambda: server(config={"": "1"}),
    "config: 'maxmemory' must be a str, an int or a sequence of str, not bool": lambda: server(
        config={"maxmemory": True}
    ),
    "binary must be a program's name or path, not int": lambda: server(1),
    "port=65536 must be a whole number, 0 to 65535, or None": lambda: server(port=65536),
    "port='6379' must be a whole number": lambda: server(port="6379"),
    "password must be a str or None, not bytes": lambda: server(password=b"secret"),
    "appendonly='no' must be True or False": lambda: server(appendonly="no"),
    "tls must be TLSFiles or None, not bool": lambda: server(tls=True),
    "role='replica' must be one of standalone, cluster, sentinel": lambda: server(role="replica"),
    "startup_timeout=0 must be a number of seconds greater than 0": lambda: server(
        startup_timeout=0
    ),
    "replicas=-1 must be a whole number, 0 or more": lambda: EmbeddedReplication(-1),
    "primaries=0 must be a whole number, 1 or more": lambda: EmbeddedCluster(0),
    "primaries=-1 must be a whole number, 1 or more": lambda: EmbeddedCluster(-1),
    "primaries=None must be a whole number, 1 or more": lambda: EmbeddedCluster(untyped(None)),
    "replicas=-1 must be a whole number": lambda: EmbeddedCluster(3, -1),
    "node_timeout=0 must be": lambda: EmbeddedCluster(node_timeout=0),
    "require_full_coverage='no' must be True or False": lambda: EmbeddedCluster(
        require_full_coverage=untyped("no")
    ),
    "sentinels=0 must be a whole number, 1 or more": lambda: EmbeddedSentinels(0),
    "replicas=-2 must be a whole number, 0 or more": lambda: EmbeddedSentinels(3, -2),
    "quorum=0 must be a whole number, 1 to 3, or None": lambda: EmbeddedSentinels(quorum=0),
    "quorum=2 must be a whole number, 1 to 1, or None": lambda: EmbeddedSentinels(1, quorum=2),
    "master_name must be a str, not int": lambda: EmbeddedSentinels(master_name=untyped(1)),
    "down_after=-1 must be": lambda: EmbeddedSentinels(down_after=-1),
    "failover_timeout='5' must be": lambda: EmbeddedSentinels(failover_timeout=untyped("5")),
    "slot=-1 must be a whole number, 0 to 16383": lambda: EmbeddedCluster().owner_of(-1),
    "slot=16384 must be a whole number, 0 to 16383": lambda: EmbeddedCluster().owner_of(16384),
    "seed=-1 must be a whole number, 0 or more": lambda: EmbeddedCluster().proxied(seed=-1),
    "key must be a str or bytes, not int": lambda: EmbeddedCluster().node_for(untyped(3)),
}


def untyped(value: object) -> Any:
    """What a type checker would not let through."""
    return value


def server(*arguments: Any, **options: Any) -> EmbeddedServer:
    return EmbeddedServer(*arguments, **options)


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        WRONG[message]()


@pytest.mark.asyncio(loop_factories=["asyncio"])
@pytest.mark.parametrize("slot", [-1, 16384, "1", None, True])
async def test_only_slots_are_moved(slot: object) -> None:
    cluster = EmbeddedCluster()
    message = f"slot={slot!r} must be a whole number, 0 to 16383"
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        await cluster.move_slot(untyped(slot), cluster.nodes[0])
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        async with cluster.migrating(untyped(slot), cluster.nodes[0]):
            pass
