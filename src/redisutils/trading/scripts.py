"""Lua scripts that the servers run: files in ``lua/``, sent once, known by their SHA1 afterwards.

https://redis.io/docs/latest/commands/evalsha/: a server forgets its scripts when it restarts, is
told to (SCRIPT FLUSH) or another server takes its place. It then answers NOSCRIPT, and has done
nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import cache
from hashlib import sha1
from importlib.resources import files
from time import monotonic
from typing import Any

from redis.exceptions import NoScriptError, RedisError

from redisutils import RedisPool
from redisutils.errors import Outcome, code_of, outcome_of, with_outcome
from redisutils.retry import TRANSIENT

__all__ = ["Script", "Scripts", "load"]


class Script:
    """A script's text, and the SHA1 by which servers know it."""

    __slots__ = ("name", "sha", "source")

    def __init__(self, name: str, source: str) -> None:
        self.name = name
        self.source = source
        self.sha = sha1(source.encode(), usedforsecurity=False).hexdigest()

    def __repr__(self) -> str:
        return f"<Script {self.name}>"


@cache
def load(name: str) -> Script:
    """The script in ``lua/<name>.lua``."""
    return Script(name, (files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8"))


class Scripts:
    """Runs scripts of which each run with the same arguments has its effect once: they compare a
    version, or find that they are no news. So what may not be repeated for commands in general may
    be for them, and a run whose fate is unknown is settled by another.

    :param pool: where they run.
    :param lane: by which of its shared connections.
    """

    __slots__ = ("_client", "_pool")

    def __init__(self, pool: RedisPool, lane: str) -> None:
        self._pool = pool
        self._client = pool.lane(lane)

    async def run(
        self,
        script: Script,
        keys: Sequence[str],
        arguments: Sequence[Any],
        *,
        again: Sequence[Any] | None = None,
    ) -> Any:
        """Run a script on the server that has its keys, again where that was in vain, as often and
        as long as the pool's settings say for commands (``REDIS_MAX_RETRIES``,
        ``REDIS_COMMAND_TIMEOUT``, ``REDIS_RETRY``).

        :param keys: all that it touches; in a cluster they are in one slot.
        :param again: its arguments once it may have run, where they tell it to look whether it has.
        :returns: its reply; strings are bytes.
        :raises CommandTimeout, ConnectionLost, ConnectFailed: nothing helped. After
            ``Outcome.UNKNOWN`` it may have run: run it again to know.
        :raises redis.ResponseError: the server refused it.
        """
        client = self._client
        settings = self._pool.server.settings
        end = monotonic() + settings.command_timeout
        words = ("EVALSHA", script.sha)
        retries, unknown = 0, False
        while True:
            try:
                return await client.execute_command(*words, len(keys), *keys, *arguments)
            except NoScriptError:
                words = ("EVAL", script.source)  # which makes it known, too
                continue
            except RedisError as error:
                unknown = unknown or outcome_of(error) is Outcome.UNKNOWN
                if unknown and again is not None:
                    arguments = again
                retries += 1
                pause = settings.retry.backoff.delay(retries)
                rest = end - monotonic() - pause
                if rest <= 0 or retries > settings.retry.max_retries or not _may_repeat(error):
                    if unknown:
                        with_outcome(error, Outcome.UNKNOWN)
                    raise
            await asyncio.sleep(pause)
            client = self._client.with_timeout(rest)


def _may_repeat(error: RedisError) -> bool:
    """Whether a script that changes nothing twice may fare better another time. What was
    not sent has been tried within the whole budget already."""
    return outcome_of(error) is Outcome.UNKNOWN or code_of(error) in TRANSIENT
