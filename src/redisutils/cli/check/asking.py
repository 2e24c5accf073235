"""What the user may do, asked before it is done.

A command that is refused for want of rights becomes an entry in the server's ACL LOG, which people
watch for intruders. So nothing is issued of which the server does not say beforehand that it may
be: by ``ACL DRYRUN``, or else by a script that calls ``redis.acl_check_cmd``; neither executes
anything nor logs what it finds. Where even these two are refused, which are the two entries that a
check leaves at most, only HELLO is asked: it is always allowed. Servers before 7.0 have none of
them; what is asked of these is found out by trying, if their user may use ACL at all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final, Literal

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from redisutils.client.lease import PooledConnection
from redisutils.errors import Outcome, outcome_of

__all__ = ["NotAsked", "Permissions", "Way"]

Way = Literal["dry run", "script", "trial", "unknown"]
"""``trial``: only by doing it. ``unknown``: not at all, without an entry for each refusal."""

_SCRIPT: Final = """\
if not redis.acl_check_cmd then return nil end
local answers = {}
for number, words in ipairs(cjson.decode(ARGV[1])) do
  local known, allowed = pcall(redis.acl_check_cmd, unpack(words))
  answers[number] = (known and not allowed) and 0 or 1
end
return answers
"""
"""A command that the server does not have is not refused: it is unknown to it."""


class NotAsked(ResponseError):
    """In place of an answer: nobody knows whether the user may ask for it."""


class Permissions:
    """What the user of a connection may do.

    Args:
        connection: kept for as long as anything is asked.
        user: who we want to be; :meth:`find_out` replaces it by who we are.
        trying: whether to find out by trying where the server does not say.
    """

    def __init__(self, connection: PooledConnection, user: str, *, trying: bool) -> None:
        self.connection = connection
        self.user = user
        self.way: Way = "unknown"
        self._trying = trying
        self._known: dict[str, str] = {}

    async def find_out(self) -> None:
        """Choose the way to ask, and learn who we are if that may be asked.

        Raises what goes wrong other than a refusal.
        """
        answer = await self._try("ACL", "DRYRUN", self.user, "ACL", "WHOAMI")
        if not isinstance(answer, BaseException):
            self.way = "dry run"
            if _allows(answer):
                await self._who_am_i()
        elif isinstance(answer, NoPermissionError):
            await self._find_out_by_script()
        elif "not found" in str(answer).lower():  # who we are, the network or a certificate said
            self.way = "dry run"
            await self._who_am_i()
        else:
            self.way = "trial"  # an old server, or one that is busy and says so to all commands
            await self._who_am_i()
        if self.way == "unknown" and self._trying:
            self.way = "trial"

    async def _find_out_by_script(self) -> None:
        answer = await self._try("EVAL", _SCRIPT, 0, json.dumps([["ACL", "WHOAMI"]]))
        if isinstance(answer, list):
            self.way = "script"
            if answer == [1]:
                await self._who_am_i()
        elif isinstance(answer, RedisError) and not isinstance(answer, NoPermissionError):
            told = str(answer).lower()
            # LOADING, BUSY and such: INFO says more about it.
            self.way = "unknown" if "unknown" in told or "acl_check_cmd" in told else "trial"

    async def _who_am_i(self) -> None:
        answer = await self._try("ACL", "WHOAMI")
        if isinstance(answer, (str, bytes)):
            self.user = answer.decode("utf-8", "replace") if isinstance(answer, bytes) else answer

    async def refusals(self, commands: Sequence[Sequence[str]]) -> list[str | None] | None:
        """Why each command would be refused, "" where that is not said, or None where it would
        not. None for all when it cannot be told without trying."""
        if self.way == "dry run":
            calls = (self._try("ACL", "DRYRUN", self.user, *command) for command in commands)
            answers = await asyncio.gather(*calls)
            # Errors come of commands that this server does not have.
            return [
                None if isinstance(answer, BaseException) or _allows(answer) else _text(answer)
                for answer in answers
            ]
        if self.way == "script":
            answer = await self._try("EVAL", _SCRIPT, 0, json.dumps([[*each] for each in commands]))
            if isinstance(answer, list) and len(answer) == len(commands):
                return [None if allowed else "" for allowed in answer]
        return None

    async def standing_for(self, command: Sequence[str]) -> ResponseError | None:
        """What stands in place of the answer to a command that must not be issued."""
        if self.way == "trial":
            return None
        refused = await self.refusals([command])
        if refused is None:
            return NotAsked("it is not known whether this user may ask for it")
        [why] = refused
        return None if why is None else NoPermissionError(why or "the user may not")

    async def _try(self, *words: Any) -> Any:
        """The answer; a refusal or complaint as a value."""
        try:
            return await self.connection.execute(*words)
        except RedisError as error:
            if outcome_of(error) is Outcome.REJECTED:
                return error
            raise


def _allows(answer: object) -> bool:
    return answer is True or _text(answer).upper() == "OK"


def _text(answer: object) -> str:
    return answer.decode("utf-8", "replace") if isinstance(answer, bytes) else str(answer)
