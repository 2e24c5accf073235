"""What the testing kit is told wrong is refused at once, and the text says what would be right."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from redisutils.errors import ConfigError
from redisutils.testing import EmbeddedReplication, EmbeddedServer

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
}


def server(*arguments: Any, **options: Any) -> EmbeddedServer:
    """What a type checker would not let through."""
    return EmbeddedServer(*arguments, **options)


@pytest.mark.parametrize("message", WRONG)
def test_wrong_arguments_are_named(message: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}"):
        WRONG[message]()
