"""Replicas: are there any, do they keep up, and do writes depend on them?"""

from __future__ import annotations

from typing import Any, Final

from redisutils.cli.check.case import Case
from redisutils.cli.check.figures import judgement, number, whole
from redisutils.cli.check.finding import Say
from redisutils.cli.check.units import count, size, span

__all__ = ["check_replication"]

BEHIND: Final = 10.0
"""Seconds since a replica was heard beyond which it is behind; it reports once a second."""
FAR: Final = 64 << 20
"""Bytes that a replica may lack."""


async def check_replication(case: Case, say: Say) -> None:
    """The step."""
    if case.info.get("role") == "slave":
        with judgement(say):
            _as_replica(case.info, say)
        return
    info = case.info
    replicas = [value for name, value in info.items() if _is_replica(name, value)]
    for replica in replicas:
        with judgement(say):
            _judge(replica, whole(info, "master_repl_offset"), say)
    with judgement(say):
        _enough(case, len(replicas), say)


def _enough(case: Case, replicas: int, say: Say) -> None:
    needed = whole(case.settings, "min-replicas-to-write")
    good = whole(case.info, "min_slaves_good_slaves", replicas)
    if needed and good < needed:
        say.error(
            f"writes are refused with NOREPLICAS: {count(good, 'replica')} in step, and "
            f"min-replicas-to-write is {needed}",
            "Bring the replicas back, or, until then, `CONFIG SET min-replicas-to-write 0`.",
            good=good,
            needed=needed,
        )
    elif not replicas:
        say.note("no replica: when this server is lost, so is what it holds", replicas=0)


def _is_replica(name: str, value: object) -> bool:
    return name.startswith("slave") and name[5:].isdigit() and isinstance(value, dict)


def _judge(replica: dict[str, Any], offset: int, say: Say) -> None:
    name = f"{replica.get('ip')}:{replica.get('port')}"
    lag = number(replica, "lag")
    lacks = max(0, offset - whole(replica, "offset", offset))
    state = str(replica.get("state", "online"))
    facts = {"replica": name, "lag": lag, "lacks": lacks, "state": state}
    if state != "online":
        say.warning(
            f"replica {name} is not in step yet ({state})",
            "Wait; if it stays so, see its log: a buffer that overflows "
            "(client-output-buffer-limit) begins it anew each time.",
            **facts,
        )
    elif lag > BEHIND or lacks > FAR:
        say.warning(
            f"replica {name} is behind: heard {span(lag)} ago, lacks {size(lacks)}",
            "A failover now would lose that. See the network between, and the replica's load.",
            **facts,
        )
    else:
        say.ok(f"replica {name} is in step", **facts)


def _as_replica(info: dict[str, Any], say: Say) -> None:
    primary = f"{info.get('master_host')}:{info.get('master_port')}"
    if info.get("master_link_status") != "up":
        down = number(info, "master_link_down_since_seconds")
        say.error(
            f"this replica has lost its primary {primary} for {span(max(down, 0))}: what it tells "
            "is old",
            "See its log; is the primary up, and is `masterauth` right?",
            primary=primary,
        )
        return
    say.ok(f"its primary {primary} is in touch", primary=primary)
