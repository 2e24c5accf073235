"""Several commands that were issued together, and go to several nodes: at the same time, each
node's contiguously, the answers in the order of issue."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from redisutils.connection.packing import OwnPayload, unpack
from redisutils.topology.cluster.gathered import Gathered, part
from redisutils.topology.cluster.heads import SEEN, SHORT, simple_slot
from redisutils.topology.cluster.keys import commands_in
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.roles import Taker
from redisutils.topology.cluster.splitting import route

__all__ = ["Spreading"]


class Spreading:
    """See the module's docstring.

    Args:
        lanes: what takes commands for a node.
        owners: the owner of each slot.
        otherwise: issues a command whose slot is not to be seen at a glance, or which concerns
            several.
    """

    __slots__ = ("_lanes", "_loop", "_otherwise", "_owners")

    def __init__(
        self,
        loop: AbstractEventLoop,
        lanes: Mapping[Node, Taker],
        owners: Sequence[Node],
        otherwise: Callable[[bytes, bool, float], Future[Any]],
    ) -> None:
        self._loop = loop
        self._lanes = lanes
        self._owners = owners
        self._otherwise = otherwise

    def issue(
        self,
        payload: bytes,
        size: int,
        decode: bool,
        timeout: float,
        target_of: Callable[[int], Taker] | None = None,
    ) -> Future[Any]:
        """Issue the commands of ``payload``. The future's result is the list of their answers,
        errors among them.

        Args:
            size: how many there are.
            target_of: what takes commands of a slot, where that is not its owner's lane.

        Raises:
            CrossSlot: one of them cannot be issued; then none is.
        """
        loop, lanes, owners = self._loop, self._lanes, self._owners
        own = type(payload) is OwnPayload
        commands = commands_in(payload, size)
        groups: dict[Taker, list[int]] = {}
        sent: list[tuple[Sequence[int], Future[Any], bool]] = []
        checked = False

        def send_groups() -> None:
            for target, places in groups.items():
                run = b"".join([commands[place] for place in places])
                together = OwnPayload(run) if own else run
                args = together, len(places), decode, timeout
                sent.append((places, part(loop, sent, target.submit_many, *args), True))
            groups.clear()

        for place, command in enumerate(commands):
            slot = SEEN.get(command) if len(command) < SHORT else None
            if slot is None:
                slot = simple_slot(command)
            if slot is None:
                if not checked:
                    checked = True
                    _check(commands[place:])
                # What it does may concern all slots: it stays behind what was issued before it.
                send_groups()
                one = OwnPayload(command) if own else command
                future = part(loop, sent, self._otherwise, one, decode, timeout)
                sent.append(((place,), future, False))
            else:
                target = lanes[owners[slot]] if target_of is None else target_of(slot)
                if target in groups:
                    groups[target].append(place)
                else:
                    groups[target] = [place]
        if not sent and len(groups) == 1:
            (target,) = groups
            return target.submit_many(payload, size, decode, timeout)
        send_groups()

        def put_back(answers: list[Any]) -> list[Any]:
            values: list[Any] = [None] * size
            for (places, _, many), answer in zip(sent, answers, strict=True):
                each = answer if many and isinstance(answer, list) else [answer] * len(places)
                for place, value in zip(places, each, strict=True):
                    values[place] = value
            return values

        return Gathered.of(loop, [future for _, future, _ in sent], put_back)


def _check(commands: Iterable[bytes]) -> None:
    """Raise if one of them cannot be issued, before any is: see ``splitting.route``."""
    for command in commands:
        if simple_slot(command) is None:
            route(*unpack(command))
