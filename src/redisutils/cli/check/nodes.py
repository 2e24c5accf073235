"""Each of several servers: can it be reached from here, does it let us in, and is it like the
others? What is wrong with many is told once."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from redisutils.address import Address
from redisutils.cli.check.case import Case
from redisutils.cli.check.clients import check_clients
from redisutils.cli.check.clock import check_clock
from redisutils.cli.check.finding import Finding, Say, Severity, Stop
from redisutils.cli.check.login import check_login
from redisutils.cli.check.memory import check_memory
from redisutils.cli.check.persistence import check_persistence
from redisutils.cli.check.seeds import alone, reach
from redisutils.cli.check.server import check_server, kind_of
from redisutils.cli.check.slowlog import check_slowlog
from redisutils.cli.check.units import count, listed, span

__all__ = ["check_nodes"]

MOST: Final = 200
"""Nodes that are looked at."""

TOGETHER: Final = 8
"""Nodes that are looked at side by side."""

_SHARE: Final = 0.4
"""Of the step's time, for connecting to one of them."""

_COMPARED: Final = (
    "appendfsync",
    "appendonly",
    "client-output-buffer-limit",
    "cluster-allow-reads-when-down",
    "cluster-node-timeout",
    "cluster-require-full-coverage",
    "maxclients",
    "maxmemory",
    "maxmemory-policy",
    "min-replicas-to-write",
    "save",
    "timeout",
)
"""Settings in which the nodes of one cluster do not differ without a reason."""

_NOT_A_SERVER: Final = ("ConnectFailed", "ProtocolError", "timeout")
"""Why a login failed where somebody else may be at that address."""

_NAMED: Final = 4

_ELECTION: Final = 2.0
"""Seconds that a replica takes, at most as a rule, to be elected once its primary is known dead."""


_Kind: TypeAlias = tuple[str, Severity, str]
"""Step, severity, and the words without figures."""


@dataclass
class _Node:
    """What came of looking at one."""

    address: Address
    healthy: bool
    error: str | None = None
    """Why it cannot be reached."""
    version: str = ""
    role: str = ""
    settings: dict[str, str] = field(default_factory=dict)
    moving: list[str] = field(default_factory=list)
    """Its slots that are on their way."""
    findings: list[Finding] = field(default_factory=list)


async def check_nodes(case: Case, say: Say) -> None:
    """The step."""
    assert case.many is not None
    gate = asyncio.Semaphore(TOGETHER)
    front = Address(case.config.host, case.config.port)

    async def look(address: Address, healthy: bool) -> _Node:
        async with gate:
            return await _look(case, _Node(address, healthy), front)

    members = case.members[:MOST]
    nodes = await asyncio.gather(*(look(one.address, one.healthy) for one in members))
    if len(case.members) > MOST:
        say.note(f"only the first {MOST} of {len(case.members)} nodes are looked at")
    there = [node for node in nodes if node.error is None]
    _reached(nodes, case, say)
    _versions(there, say)
    _differences(there, say)
    _moving(there, say)
    if case.many.mode == "cluster":
        _promises(case, there, say)
    _same_of_many([node for node in there if node.address != front], case.told, say)


async def _look(case: Case, node: _Node, front: Address) -> _Node:
    node.error = await reach(node.address, _SHARE * case.timeout)
    if node.error is not None:
        return node
    assert case.many is not None
    loaded = replace(case.loaded, config=alone(case.many, node.address))
    own = Case(loaded, case.timeout, case.processes, case.key, case.trying)
    own.addresses, own.address, own.open_door = case.addresses, case.address, case.open_door
    own.many = case.many

    def telling(step: str) -> Say:
        return Say(step, node.findings.append)

    async with own.closing:
        try:
            await check_login(own, telling("login"))
            # It is no fault to be a replica here, nor a node among others.
            await check_server(own, telling("server"))
        except Stop:
            reasons = [(finding.facts.get("reason"), finding.found) for finding in node.findings]
            strange = [found for reason, found in reasons if reason in _NOT_A_SERVER]
            if strange:  # somebody is there who is no such server
                told = strange[0].partition(" [outcome")[0]
                node.error, node.findings = told.removeprefix(f"{node.address} "), []
            return node
        node.version = " ".join(kind_of(own.info)) if own.info else ""
        node.role = str(own.info.get("role", ""))
        asked = await own.ask(*(("CONFIG GET", name) for name in _COMPARED))
        for answer in asked:
            if isinstance(answer, dict):
                node.settings.update({str(k): str(v) for k, v in answer.items()})
        if case.many.mode == "cluster":
            node.moving = await _slots_on_their_way(own)
        if node.address == front:
            return node
        steps: Iterable[Any] = (check_memory, check_persistence, check_clients)
        for step in steps if own.info else ():
            await step(own, telling(step.__name__.removeprefix("check_")))
        await check_slowlog(own, telling("slowlog"))
        await check_clock(own, telling("clock"))
    return node


async def _slots_on_their_way(own: Case) -> list[str]:
    """From a node's own line of CLUSTER NODES: ``[93->-ID]``, ``[77-<-ID]``."""
    if await own.permissions.standing_for(["CLUSTER", "NODES"]) is not None:
        return []
    told = await own.permissions.connection.execute("CLUSTER", "NODES")
    text = told.decode("utf-8", "replace") if isinstance(told, bytes) else str(told)
    mine = next((line for line in text.splitlines() if "myself" in line), "")
    return re.findall(r"\[(\d+)-[<>]-", mine)


# -- all of them ---------------------------------------------------------------------------------


def _reached(nodes: list[_Node], case: Case, say: Say) -> None:
    lost = [node for node in nodes if node.error is not None]
    if not lost:
        say.ok(f"all {len(nodes)} can be reached from here", nodes=len(nodes))
        return
    told = listed([f"{node.address} ({node.error})" for node in lost[:_NAMED]])
    more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
    announced = [node for node in lost if node.healthy]
    remedy = "Start it again, or let the cluster forget it: `CLUSTER FORGET ID` on each node."
    if announced:
        example = announced[0].address
        remedy = (
            "The others hear it, so it lives: what it announces is no address of this network "
            "(NAT, containers). Set `cluster-announce-ip` (or `replica-announce-ip`) there, or "
            f"here REDIS_ADDRESS_MAP={example}=HOST:PORT,… with where each is reached from here."
        )
    say.error(
        f"{len(lost)} of {len(nodes)} nodes cannot be reached from here: {told}{more}",
        remedy,
        unreachable=[str(node.address) for node in lost],
    )


def _versions(nodes: list[_Node], say: Say) -> None:
    versions: dict[str, list[_Node]] = defaultdict(list)
    for node in nodes:
        if node.version:
            versions[node.version].append(node)
    if len(versions) > 1:
        told = "; ".join(f"{version} on {_named(who)}" for version, who in _largest(versions))
        say.warning(
            f"the nodes are of different versions: {told}",
            "During an upgrade that is as it should be. Afterwards bring the others along: what "
            "one of them knows, another may refuse.",
            versions={version: len(who) for version, who in versions.items()},
        )


def _differences(nodes: list[_Node], say: Say) -> None:
    alike = True
    for name in _COMPARED:
        values: dict[str, list[_Node]] = defaultdict(list)
        for node in nodes:
            if name in node.settings:
                values[node.settings[name]].append(node)
        if len(values) < 2:
            continue
        alike = False
        told = "; ".join(f"{value or 'none'} on {_named(who)}" for value, who in _largest(values))
        say.warning(
            f"{name} differs: {told}",
            f"`CONFIG SET {name} …` where it is wrong, then `CONFIG REWRITE`. After a failover "
            "the other one holds.",
            setting=name,
        )
    if alike and sum(bool(node.settings) for node in nodes) > 1:
        say.ok(f"their settings agree ({len(_COMPARED)} compared)")


def _moving(nodes: list[_Node], say: Say) -> None:
    moving = [node for node in nodes if node.moving]
    if moving:
        slots = sorted({int(slot) for node in moving for slot in node.moving})
        named = ", ".join(map(str, slots[:8])) + (", …" if len(slots) > 8 else "")
        say.warning(
            f"{count(len(slots), 'slot')} on the way from one node to another: {named}",
            "If somebody moves slots now, that is as it should be. Left over from a move that "
            "was broken off, they cost each of their commands an ASK: `redis-cli --cluster fix`.",
            slots=slots[:100],
        )


def _promises(case: Case, nodes: list[_Node], say: Say) -> None:
    """What the settings mean for a failover."""
    assert case.many is not None
    settings = next((node.settings for node in nodes if node.settings), {})
    budget = case.many.command_timeout
    if settings.get("cluster-node-timeout", "").isdigit():
        noticed = int(settings["cluster-node-timeout"]) / 1000
        takes = noticed + _ELECTION
        told = (
            f"a dead primary is noticed after {span(noticed)} (cluster-node-timeout), and replaced "
            f"within some {span(takes)}"
        )
        if takes > budget:
            say.note(
                f"{told}: longer than REDIS_COMMAND_TIMEOUT={budget:g}, so commands on its keys "
                "fail meanwhile",
                f"`CONFIG SET cluster-node-timeout {max(2000, int(budget * 1000 / 2))}` where "
                "networks and machines are steady, or raise REDIS_COMMAND_TIMEOUT.",
                seconds=takes,
            )
        else:
            say.ok(f"{told}: commands wait for that (REDIS_COMMAND_TIMEOUT={budget:g})")
    if settings.get("cluster-require-full-coverage") == "yes":
        say.note(
            "cluster-require-full-coverage yes: when one slot has no owner, all nodes refuse all "
            "commands",
            "`CONFIG SET cluster-require-full-coverage no` on each, if a part of the keys is "
            "better than none.",
        )
    if settings.get("min-replicas-to-write") == "0" and any(n.role == "slave" for n in nodes):
        say.note(
            "min-replicas-to-write 0: a primary that is cut off goes on to acknowledge writes that "
            "are lost when another takes over",
            "`CONFIG SET min-replicas-to-write 1` bounds that to min-replicas-max-lag seconds; "
            "WAIT after a write closes it.",
        )


def _same_of_many(nodes: list[_Node], front: Iterable[Finding], say: Say) -> None:
    """What is wrong with each, told once where it is the same but for its figures."""
    found: dict[_Kind, list[tuple[_Node, Finding]]] = defaultdict(list)
    for node in nodes:
        for finding in node.findings:
            if finding.severity in ("warning", "error"):
                found[_kind(finding)].append((node, finding))
    known = {_kind(finding) for finding in front}
    again = {step for step, severity, shape in found if (step, severity, shape) in known}
    if again:
        same = {
            str(node.address) for kind, cases in found.items() if kind in known for node, _ in cases
        }
        say.note(
            f"what was said of {listed(sorted(again))} holds of {len(same)} others, too",
            nodes=sorted(same),
        )
    new = [(kind, cases) for kind, cases in found.items() if kind not in known]
    new.sort(key=lambda item: (item[0][1] != "error", -len(item[1])))
    for (step, severity, _), cases in new:
        node, finding = cases[0]
        others = [other for other, _ in cases]
        who = str(node.address) if len(others) == 1 else f"{_named(others)}, each"
        tell = say.error if severity == "error" else say.warning
        tell(
            finding.found if finding.found.startswith(who) else f"{who}: {finding.found}",
            finding.remedy or "See the same step above.",
            step=step,
            nodes=[str(other.address) for other in others],
        )
    if nodes and not found:
        say.ok("nothing is wrong with the others" if len(nodes) > 1 else "the other one is well")


def _kind(finding: Finding) -> _Kind:
    """Ports and figures aside, it is the same."""
    return finding.step, finding.severity, re.sub(r"[\d.,]+", "#", finding.found)


def _largest(groups: dict[str, list[_Node]]) -> list[tuple[str, list[_Node]]]:
    """The largest first: the others are those that differ."""
    return sorted(groups.items(), key=lambda group: -len(group[1]))


def _named(nodes: list[_Node]) -> str:
    named = [str(node.address) for node in nodes]
    return listed(named if len(named) <= _NAMED else [*named[:3], f"{len(named) - 3} more"])
