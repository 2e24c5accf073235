"""What kind of server it is, and whether it serves."""

from __future__ import annotations

import re
from typing import Any, Final

from redis.exceptions import NoPermissionError, RedisError, ResponseError

from redisutils.cli.check.asking import NotAsked
from redisutils.cli.check.case import Case, cannot
from redisutils.cli.check.figures import judgement, number, printable, whole
from redisutils.cli.check.finding import Say, Stop
from redisutils.cli.check.units import span
from redisutils.errors import RedisUtilsError

__all__ = ["check_server", "judge_version"]

_SETTINGS: Final = (
    "appendfsync",
    "client-output-buffer-limit",
    "databases",
    "maxclients",
    "min-replicas-max-lag",
    "min-replicas-to-write",
    "save",
    "slowlog-log-slower-than",
    "tcp-keepalive",
    "timeout",
)
"""What later steps want to know. Never ``*``: passwords are among the settings."""

_ROLES: Final = {"master": "primary", "slave": "replica"}
"""INFO's words for what a server is, and ours."""

_TOO_OLD: Final = (5, 0)
_OUT_OF_CARE: Final = (7, 2)
"""Redis below it gets no fixes from its makers: they care for the current major version and the
one before (https://github.com/redis/redis/blob/unstable/SECURITY.md)."""


async def check_server(case: Case, say: Say) -> None:
    """The step."""
    try:
        [answer] = await case.ask(("INFO",))
        if isinstance(answer, ResponseError):
            raise answer
        case.info = dict(answer)
    except (RedisError, RedisUtilsError) as error:
        _no_info(case, error, say)
    answers = await case.ask(*(("CONFIG GET", name) for name in _SETTINGS))
    for answer in answers:
        if isinstance(answer, dict):
            case.settings.update({str(k): str(v) for k, v in answer.items()})
    # HELLO says little, but to everybody: there, mode and role have INFO's words.
    info = case.info or _by_hello(case.hello)
    if not info:
        return
    mode = str(info.get("redis_mode") or info.get("server_mode") or "standalone")
    if mode == "sentinel":
        await _sentinel(case, say)
        raise Stop
    role = str(info.get("role", "unknown"))
    kind, version = kind_of(info)
    say.ok(
        f"{kind} {version}, {mode}, {_ROLES.get(role, role)}",
        kind=kind.lower(),
        version=version,
        mode=mode,
        role=role,
    )
    if case.info:
        with judgement(say):
            up = number(info, "uptime_in_seconds")
            say.ok(f"up for {span(up)}", uptime=up)
    judge_version(kind, version, say)
    with judgement(say):
        _loading(info, say)
    if case.many is not None:  # the topology is looked at as such
        return
    if role == "slave":
        _replica(info, say)
    if mode == "cluster":
        await _cluster(case, say)


def _by_hello(hello: dict[str, str]) -> dict[str, Any]:
    if not hello:
        return {}
    role = {"replica": "slave"}.get(hello.get("role", ""), hello.get("role", "unknown"))
    server, version = hello.get("server", "redis"), hello.get("version", "?")
    return {"redis_mode": hello.get("mode"), "role": role, f"{server}_version": version}


def _replica(info: dict[str, Any], say: Say) -> None:
    primary = f"{info['master_host']}:{info.get('master_port')}" if "master_host" in info else None
    say.error(
        f"this is a replica{f' of {primary}' if primary else ''}: writes fail with READONLY",
        "Set REDIS_HOST and REDIS_PORT to the primary"
        + (f", {primary} as the replica sees it" if primary else "")
        + ". If that was the primary until now, there was a failover.",
        primary=primary,
    )


def _loading(info: dict[str, Any], say: Say) -> None:
    if not whole(info, "loading"):
        return
    left = number(info, "loading_eta_seconds") if "loading_eta_seconds" in info else None
    say.error(
        f"the server is loading its data ({printable(info.get('loading_loaded_perc', '?'))} %, "
        f"{span(left) if left is not None else 'some time'} to go): until then it "
        "refuses commands with LOADING",
        "Wait. Raise REDIS_COMMAND_TIMEOUT and REDIS_MAX_RETRIES if restarts shall be bridged.",
        eta=left,
    )
    raise Stop


def judge_version(kind: str, version: str, say: Say) -> None:
    """Whether the server is still cared for."""
    found = re.match(r"(\d+)\.(\d+)", version)
    number = (int(found[1]), int(found[2])) if found else (0, 0)
    if number < _TOO_OLD:
        say.warning(
            f"{kind} {version} is older than all that this library is tested with",
            "Upgrade it: 6.0 brought RESP3, users (ACL) and TLS.",
        )
    elif kind == "Redis" and number < _OUT_OF_CARE:
        say.note(
            f"Redis {version} gets no more fixes from its makers",
            "Upgrade to Valkey 8 or newer or to Redis 8, unless your distribution or provider "
            "mends it (https://github.com/redis/redis/security/policy).",
            source="https://github.com/redis/redis/security/policy",
        )


def kind_of(info: dict[str, Any]) -> tuple[str, str]:
    """Valkey or Redis, and its version."""
    if info.get("server_name") == "valkey" or "valkey_version" in info:
        return "Valkey", str(info.get("valkey_version", "?"))
    return "Redis", str(info.get("redis_version", "?"))


def _no_info(case: Case, error: Exception, say: Say) -> None:
    if isinstance(error, (NoPermissionError, NotAsked)):
        case.no_info = f"{cannot(error)} ask INFO"
        say.note(
            f"{case.no_info}: memory, persistence, clients and replication stay unseen",
            "Grant `+info` if you want pool.health() and this check to see them."
            if isinstance(error, NoPermissionError)
            else "Grant `+acl|dryrun`, for this check to ask what it may.",
        )
        return
    told = str(error)
    if told.startswith("BUSY") or "busy running a script" in told.lower():
        say.error(
            "the server is busy with a script, and refuses all else",
            "`redis-cli SCRIPT KILL` ends it if it has not written yet.",
        )
    elif "loading" in told.lower():
        say.error("the server is loading its data", "Wait until it has.")
    else:
        say.error(f"INFO failed: {told}", "Read the server's log, and try `redis-cli INFO`.")
    raise Stop


async def _sentinel(case: Case, say: Say) -> None:
    told, names = [], []
    [masters] = await case.ask(("SENTINEL MASTERS",))
    if isinstance(masters, dict):
        names = list(masters)
        told = [
            f"{name} is at {state.get('ip')}:{state.get('port')}" for name, state in masters.items()
        ]
    say.error(
        "this is a Sentinel: it tells where the primary is, and has no data",
        "Set REDIS_MODE=sentinel, REDIS_NODES to this and the other sentinels "
        f"(REDIS_NODES={case.config.endpoint},HOST:PORT,HOST:PORT) and REDIS_SENTINEL_MASTER="
        + (f"{names[0]}; or, without failover," if names else "its name; or, without failover,")
        + " REDIS_HOST and REDIS_PORT to the primary"
        + (f": {'; '.join(told)}, as it sees it." if told else "."),
        primaries=told,
    )


async def _cluster(case: Case, say: Say) -> None:
    [answer] = await case.ask(("CLUSTER INFO",))
    if not isinstance(answer, dict):
        told = f"this is a node of a cluster, and {cannot(answer)} ask how many nodes it has"
        say.note(told, "Grant `+cluster|info`. If they are several, set REDIS_MODE=cluster.")
        return
    state: dict[str, Any] = answer
    with judgement(say):
        _judge_cluster(state, whole(state, "cluster_size"), case.config.endpoint, say)


def _judge_cluster(state: dict[str, Any], nodes: int, place: str, say: Say) -> None:
    if state.get("cluster_state") == "fail":
        say.error(
            "the cluster is down: not every slot has a node that serves it",
            "`redis-cli --cluster check HOST:PORT` tells which; CLUSTERDOWN is what callers get.",
            **state,
        )
    if nodes > 1:
        say.error(
            f"this is one of {nodes} primaries of a cluster, and is spoken to as if it were alone: "
            "commands on other nodes' keys fail with MOVED",
            "Set REDIS_MODE=cluster, and REDIS_NODES to three of its nodes "
            f"(REDIS_NODES={place},HOST:PORT,HOST:PORT); the program need not change.",
            primaries=nodes,
        )
    elif state.get("cluster_state") != "fail":
        say.note(
            "cluster mode is on, and this node has all slots: commands on several keys need them "
            "in one slot",
            "Put a {hash tag} into keys that are used together.",
        )
