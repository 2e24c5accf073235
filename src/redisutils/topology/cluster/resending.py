"""Sending again what a node did not answer, or what has to go to several nodes now."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable, Sequence
from functools import partial
from math import inf, nextafter
from typing import Any

from redisutils.commands import may_write
from redisutils.connection.packing import OwnPayload, unpack
from redisutils.connection.reply import Batch, Reply
from redisutils.errors import CommandTimeout, ConnectionLost, Outcome
from redisutils.metrics.counters import PoolMetrics
from redisutils.pool.judgement import repeatable
from redisutils.topology.cluster.gathered import Gathered
from redisutils.topology.cluster.keys import commands_in
from redisutils.topology.cluster.roles import Known, LaneOver

__all__ = ["Resending", "detached"]


class Resending:
    """See the module's docstring.

    Args:
        lane: by which it is sent again.
        cluster: whose policy says what may be.
    """

    __slots__ = ("_cluster", "_lane")

    def __init__(self, lane: LaneOver, cluster: Known) -> None:
        self._lane = lane
        self._cluster = cluster

    def scatter(
        self,
        batch: Batch,
        values: list[Any],
        places: Sequence[int],
        issue: Callable[[int, Reply], None],
    ) -> None:
        """Issue some commands of ``batch`` again, in their order; it is answered when all are.

        Args:
            values: its answers so far.
            places: of those that have no answer yet.
            issue: called with each place and the reply that is to come to it.
        """
        loop = self._lane.loop
        commands = commands_in(batch.payload, batch.size)
        metrics = self._cluster.metrics

        def finish(answers: list[Any]) -> None:
            for place, answer in zip(places, answers, strict=True):
                values[place] = answer
            if batch.done():
                return
            if not batch.is_own:
                _count(metrics, commands, values)
            batch.future.set_result(values)

        gathered = Gathered(loop, len(places), finish)
        gathered.end_with(batch.future)
        # Each a hair's breadth after the one before: one that is refused again while the others
        # wait finds its place before them.
        issued = batch.issued
        replies = []
        for number, place in enumerate(places):
            # The batch is told, and counted, as one.
            reply = Reply(
                Future(loop=loop),
                OwnPayload(commands[place]),
                batch.decode,
                issued,
                batch.timeout,
            )
            issued = nextafter(issued, inf)
            reply.redirects, reply.attempts, reply.fate = (
                batch.redirects,
                batch.attempts,
                batch.fate,
            )
            gathered.add(number, reply.future)
            replies.append((place, reply))
        for place, reply in replies:
            issue(place, reply)

    def apart(self, batch: Batch, issue: Callable[[Reply], None]) -> None:
        """Issue the commands of ``batch`` one by one."""
        values: list[Any] = [None] * batch.size
        self.scatter(batch, values, range(batch.size), lambda _, one: issue(one))

    def settle(self, node: str, late: Sequence[Reply]) -> None:
        """``node``, which has lost a slot, does not answer these. What it may answer later is
        nobody's; those that may be repeated are."""
        policy = self._cluster.settings.retry
        for reply in late:
            again = detached(reply, self._lane.loop)
            again.fate = Outcome.UNKNOWN
            may_resend = policy.may_resend(partial(repeatable, again))
            if may_resend and again.tries() <= policy.max_retries:
                self._lane.reroute(again)
            else:
                again.fail(
                    ConnectionLost(
                        f"{node} had been sent this command, has lost its slot to another node, "
                        "and has not answered"
                    ),
                    self._cluster.metrics,
                )


def _count(metrics: PoolMetrics, commands: Sequence[bytes], values: Sequence[Any]) -> None:
    """A batch is answered that was told, and is counted, as one."""
    late = next((value for value in values if isinstance(value, CommandTimeout)), None)
    if late is not None:
        metrics.ran_out(late)
    for command, value in zip(commands, values, strict=True):
        if isinstance(value, Exception):
            metrics.failed(value, may_write=partial(may_write, *unpack(command)))


def detached(reply: Reply, loop: AbstractEventLoop) -> Reply:
    """What the caller of ``reply`` awaits, as a reply of its own. The place of ``reply`` among
    those that are owed stays; what comes there is dropped."""
    again: Reply
    if isinstance(reply, Batch):
        again = Batch(
            reply.future, reply.payload, reply.decode, reply.issued, reply.timeout, reply.size
        )
    else:
        again = Reply(reply.future, reply.payload, reply.decode, reply.issued, reply.timeout)
    again.attempts, again.redirects = reply.attempts, reply.redirects
    reply.future = Future(loop=loop)
    reply.future.cancel()
    return again
