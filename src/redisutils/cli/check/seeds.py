"""Of several servers: whom are we told to ask first, and does one of them lead on?

What leads on is a node of the cluster, or the primary that the sentinels name. The steps after this
one look at it as at a server alone; how the others are, ``topology`` and ``nodes`` tell.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from time import perf_counter
from typing import Any, Final

from redis.exceptions import RedisError, ResponseError

from redisutils import RedisPool
from redisutils.address import Address
from redisutils.cli.check.case import Case
from redisutils.cli.check.finding import Say, Stop
from redisutils.cli.check.units import listed, span
from redisutils.config import RedisConfig
from redisutils.connection.reach import addresses, why
from redisutils.errors import AuthenticationFailed, RedisUtilsError

__all__ = ["check_seeds", "reach"]

_SHARE: Final = 0.6
"""Of the step's time, for connecting."""


async def check_seeds(case: Case, say: Say) -> None:
    """The step. From here on ``case.config`` is of one server."""
    config = case.config
    case.many = config
    attempts = await asyncio.gather(*(reach(seed, _SHARE * case.timeout) for seed in config.seeds))
    good = [seed for seed, error in zip(config.seeds, attempts, strict=True) if error is None]
    bad = [
        f"{seed}: {error}"
        for seed, error in zip(config.seeds, attempts, strict=True)
        if error is not None
    ]
    what = "sentinels" if config.mode == "sentinel" else "nodes"
    told = f"{len(good)} of {len(attempts)} {what} of REDIS_NODES can be reached"
    if not good:
        say.error(
            f"{told}: {listed(bad)}",
            "Are they running, and is there a way to them from here? In a container: name them as "
            "this machine reaches them, and set REDIS_ADDRESS_MAP for those that they name.",
            unreachable=bad,
        )
        raise Stop
    if bad:
        say.warning(
            f"{told}: {listed(bad)}",
            "Take it out of REDIS_NODES if it is gone for good; the others do while they live.",
            unreachable=bad,
        )
    else:
        say.ok(told)
    if len(config.seeds) == 1:
        say.note(
            "REDIS_NODES names only one: while that is away, no program can start",
            f"Name two more {what}.",
        )
    front = good[0]
    if config.mode == "sentinel":
        front = await _ask_sentinels(case, good, say)
    case.loaded = replace(case.loaded, config=alone(config, front))


def alone(config: RedisConfig, place: Address) -> RedisConfig:
    """The settings of one of the servers."""
    return config.replace(
        mode="standalone", url=None, nodes=(), host=place.host, port=place.port, **_NO_SENTINELS
    )


_NO_SENTINELS: Final[Any] = {
    "sentinel_master": None,
    "sentinel_username": None,
    "sentinel_password": None,
}


async def reach(place: Address, seconds: float) -> str | None:
    """Connect, and hang up. Why it cannot be done; None if it can."""
    try:
        async with asyncio.timeout(seconds):
            found = await addresses(place.host, place.port)
            _, writer = await asyncio.open_connection(found[0], place.port)
            writer.transport.abort()
    except TimeoutError:
        return f"does not answer for {span(seconds)}"
    except ConnectionRefusedError:
        return "refuses"
    except UnicodeError:
        return "no host can have such a name"
    except OSError as error:
        return why(error)
    return None


# -- sentinels ---------------------------------------------------------------------------------


async def _ask_sentinels(case: Case, good: list[Address], say: Say) -> Address:
    """Where the primary is, as most of them say."""
    config = case.config
    name = config.sentinel_master or ""
    answers = await asyncio.gather(*(_ask(case, seed) for seed in good))
    named: dict[Address, list[Address]] = {}
    states: dict[Address, dict[str, str]] = {}
    refused: dict[str, list[str]] = {}
    for seed, answer in zip(good, answers, strict=True):
        if isinstance(answer, str):
            refused.setdefault(answer, []).append(str(seed))
            continue
        states[seed] = answer
        place = Address(answer.get("ip", "?"), int(answer.get("port", 0)))
        named.setdefault(place, []).append(seed)
    for told, who in refused.items():
        tell = say.warning if named else say.error
        tell(
            f"{listed(who)} {'does' if len(who) == 1 else 'do'} not tell where {name!r} is: {told}",
            _remedy(told, name),
            sentinels=who,
        )
    if not named:
        raise Stop
    most = max(named, key=lambda place: len(named[place]))
    if len(named) > 1:
        told = "; ".join(f"{listed(list(map(str, who)))}: {at}" for at, who in named.items())
        say.error(
            f"the sentinels disagree where {name!r} is: {told}",
            "During a failover that is over in seconds. Otherwise one of them is cut off, or "
            "watches another primary of that name: `SENTINEL RESET` there.",
        )
    _judge_sentinels(name, states[named[most][0]], len(states), say)
    front = _mapped(case, most)
    say.ok(f"{name!r} is at {front}, say {len(named[most])} sentinels", primary=str(front))
    return front


def _mapped(case: Case, announced: Address) -> Address:
    assert case.many is not None
    return dict(case.many.address_map).get(announced, announced)


def _remedy(told: str, name: str) -> str:
    if "password" in told.lower() or "auth" in told.lower():
        return (
            "Sentinels have passwords of their own: set REDIS_SENTINEL_PASSWORD (and "
            "REDIS_SENTINEL_USERNAME for an ACL user), or none where they want none."
        )
    return (
        f"Is it a sentinel (they listen on 26379 as a rule), and does it watch {name!r}? "
        "`redis-cli -p 26379 SENTINEL MASTERS` lists the names for REDIS_SENTINEL_MASTER."
    )


def _judge_sentinels(name: str, state: dict[str, str], answering: int, say: Say) -> None:
    """What one of them says of the primary and of the others."""
    others = _number(state, "num-other-sentinels")
    quorum = _number(state, "quorum")
    replicas = _number(state, "num-slaves")
    total = others + 1
    facts = {
        "sentinels": total,
        "quorum": quorum,
        "replicas": replicas,
        "flags": state.get("flags"),
    }
    if total < 3:
        say.warning(
            f"{total} sentinel{'s' * (total != 1)} watch{'es' * (total == 1)} {name!r}: when one "
            "is lost, there is no majority and so no failover",
            "Run three or more, each on a machine of its own.",
            **facts,
        )
    elif quorum > total // 2 + 1:
        say.note(
            f"the quorum is {quorum} of {total} sentinels: more than a majority must see the "
            "primary down",
            f"`SENTINEL SET {name} quorum {total // 2 + 1}` on each, unless you want that.",
            **facts,
        )
    else:
        say.ok(f"{total} sentinels with a quorum of {quorum}, {replicas} replicas", **facts)
    if not replicas:
        say.warning(
            f"{name!r} has no replica: there is nobody to fail over to",
            "Start one: `replicaof HOST PORT`.",
        )
    if "down" in state.get("flags", ""):
        say.error(
            f"the sentinels take {name!r} for down ({state['flags']})",
            "Is it running? See the sentinels' logs: `+sdown`, `+odown`, `-failover-abort…`.",
        )


def _number(state: dict[str, str], name: str) -> int:
    told = state.get(name, "")
    return int(told) if told.isdigit() else 0


async def _ask(case: Case, seed: Address) -> dict[str, str] | str:
    """What a sentinel says of the primary; or why it does not."""
    config = case.config
    own = alone(config, seed).replace(
        username=config.sentinel_username,
        password=config.sentinel_password,
        password_file=None,
        database=0,
        pool_max_size=2,
        pool_min_idle=0,
        retry="never",
        command_timeout=_SHARE * case.timeout,
        client_name="",
    )
    started = perf_counter()
    try:
        async with RedisPool(own, library=None) as pool, pool.get() as connection:
            told = await connection.execute("SENTINEL", "MASTER", config.sentinel_master or "")
    except AuthenticationFailed as error:
        if "none is set" in str(error):
            return "it wants a password, and none is set"
        return "it refused the password"
    except ResponseError as error:
        return str(error)
    except (RedisUtilsError, RedisError, OSError) as error:
        return f"{type(error).__name__} after {span(perf_counter() - started)}: {error}"
    return _pairs(told)


def _pairs(told: Any) -> dict[str, str]:
    items = told.items() if isinstance(told, dict) else zip(told[::2], told[1::2], strict=False)
    return {_text(name): _text(value) for name, value in items}


def _text(value: object) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
