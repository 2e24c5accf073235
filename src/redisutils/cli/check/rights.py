"""What the user may do: the commands that the library itself needs, and those on a key.

The server is asked; nothing is executed. Where it does not say, and that was wanted, the first are
really issued, on a connection of our own: none of them touches a key or changes the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Final

from redis.exceptions import NoPermissionError

from redisutils.cli.check.case import Case
from redisutils.cli.check.finding import Say, Severity

__all__ = ["check_rights"]

_NEEDED: Final[tuple[tuple[str, Severity, str], ...]] = (
    ("PING", "error", "idle connections cannot be tested, and are thrown away each time"),
    ("UNWATCH", "warning", "a connection that is given back keeps its WATCH"),
    ("CLIENT UNBLOCK 0", "warning", "a blocking command that was given up may still take data"),
    ("CLIENT SETINFO LIB-NAME redisutils", "note", "CLIENT LIST does not show the library"),
    ("CLIENT LIST ID 0", "note", "it cannot be seen who is connected"),
    ("MULTI", "warning", "there are no transactions"),
    ("DISCARD", "warning", "a transaction cannot be given up"),
)
"""Command, how much its lack hurts, and how. Between the last two nothing would be executed."""

_EVERYDAY: Final = {
    "reading": ("GET {key}", "HGETALL {key}", "ZRANGE {key} 0 -1", "XREAD STREAMS {key} 0"),
    "writing": (
        "SET {key} v",
        "DEL {key}",
        "EXPIRE {key} 60",
        "HSET {key} f v",
        "ZADD {key} 1 m",
        "XADD {key} * f v",
    ),
    "blocking": ("BLPOP {key} 1",),
    "transactions": ("WATCH {key}", "MULTI", "EXEC"),
    "scripts": ("EVAL return 1 {key}", "EVALSHA 0 1 {key}", "SCRIPT LOAD x"),
    "pub/sub": ("PUBLISH {key} m", "SUBSCRIBE {key}"),
    "scanning": ("SCAN 0",),
}
"""What programs do, by what they call it."""


async def check_rights(case: Case, say: Say) -> None:
    """The step."""
    await _library(case, say)
    await _everyday(case, say)


async def _library(case: Case, say: Say) -> None:
    wanted = [*_NEEDED]
    if case.config.client_name:
        setname = f"CLIENT SETNAME {case.config.client_name}"
        wanted.insert(0, (setname, "note", "CLIENT LIST does not show REDIS_CLIENT_NAME"))
    missing: dict[Severity, dict[str, str]] = {}
    refused = await _refused(case, [command.split() for command, _, _ in wanted])
    if refused is None:
        return
    for (command, severity, harm), no in zip(wanted, refused, strict=True):
        if no:
            missing.setdefault(severity, {})[_name(command)] = harm
    tellers: dict[Severity, Callable[..., None]] = {
        "error": say.error,
        "warning": say.warning,
        "note": say.note,
    }
    for severity, tell in tellers.items():
        harms = missing.get(severity)
        if harms:
            tell(
                f"the user may not {'; '.join(f'{name} ({harm})' for name, harm in harms.items())}",
                f"`ACL SETUSER {case.user} {' '.join(map(_grant, harms))}`",
                commands=[*harms],
            )
    if not missing:
        say.ok("the user may do all that the library does by itself")


async def _refused(case: Case, commands: list[list[str]]) -> list[bool] | None:
    """Of each command whether it is; None when it cannot be told."""
    told = await case.permissions.refusals(commands)
    if told is not None:
        return [why is not None for why in told]
    if case.permissions.way != "trial":
        return None
    calls = (case.permissions.connection.execute(*command) for command in commands)
    answers = await asyncio.gather(*calls, return_exceptions=True)
    # Other refusals are no matter of rights: an old server does not know the command.
    return [isinstance(answer, NoPermissionError) for answer in answers]


async def _everyday(case: Case, say: Say) -> None:
    user = case.user
    commands = {
        what: [each.format(key=case.key) for each in examples]
        for what, examples in _EVERYDAY.items()
    }
    flat = [command for examples in commands.values() for command in examples]
    told = await case.permissions.refusals([_words(each) for each in flat])
    if told is None:
        say.note(
            "which commands and keys the user may use cannot be told",
            "Grant `+acl|whoami +acl|dryrun` (from Redis 7.0 on), or ask an administrator for "
            f"`ACL GETUSER {user}`. `--try-all` finds out by trying; each refusal is an entry in "
            "the server's ACL LOG.",
        )
        return
    answers = {each: why for each, why in zip(flat, told, strict=True) if why is not None}
    unsaid = _sorted_out(commands, answers, lambda why: not why)
    refused = _sorted_out(commands, answers, lambda why: bool(why) and not _about_keys(why))
    out_of_reach = _sorted_out(commands, answers, _about_keys)
    for what, category in (("reading", "@read"), ("writing", "@write")):
        if all(each in answers for each in commands[what]):
            say.warning(
                f"{what} is refused altogether, on {case.key}",
                f"If your program does it: `ACL SETUSER {user} +{category} ~pattern`."
                " If its keys are others: `--key NAME` looks at one of them.",
                key=case.key,
                what=what,
            )
    if unsaid:
        say.note(
            f"the user may not use {_told(unsaid)} on {case.key}; whether for the command or the "
            "key is not said",
            f"If your program does: `ACL SETUSER {user} +command …`, or `~pattern &channel` for "
            "its keys; `--key NAME` looks at one of them.",
            key=case.key,
            refused=unsaid,
        )
    if refused:
        say.note(
            f"the user may not use {_told(refused)}",
            f"If your program does: `ACL SETUSER {user} +command …`",
            refused=refused,
        )
    if out_of_reach:
        say.note(
            f"the user may use {_told(out_of_reach)}, but not on {case.key}",
            "`--key NAME` looks at a key of your program's; `ACL SETUSER "
            f"{user} ~pattern &channel` grants others.",
            key=case.key,
            refused=out_of_reach,
        )
    if not answers:
        say.ok(f"the user may read, write and publish, for instance on {case.key}", key=case.key)


def _about_keys(why: str) -> bool:
    return "' key" in why or "' channel" in why


def _sorted_out(
    commands: Mapping[str, list[str]], answers: Mapping[str, str], wanted: Callable[[str], bool]
) -> dict[str, list[str]]:
    """The names of the refused ones, by what they are for."""
    found = {
        what: [_name(each) for each in examples if each in answers and wanted(answers[each])]
        for what, examples in commands.items()
    }
    return {what: names for what, names in found.items() if names}


def _told(commands: Mapping[str, list[str]]) -> str:
    return "; ".join(f"{', '.join(names)} ({what})" for what, names in commands.items())


def _words(command: str) -> list[str]:
    words = command.split()
    if words[0] in {"EVAL", "EVALSHA"}:  # its script is one word, and then come its keys
        return [words[0], " ".join(words[1:-1]), "1", words[-1]]
    return words


def _name(command: str) -> str:
    words = command.split()
    return " ".join(words[:2]) if words[0] in {"CLIENT", "SCRIPT"} else words[0]


def _grant(name: str) -> str:
    return "+" + name.lower().replace(" ", "|")
