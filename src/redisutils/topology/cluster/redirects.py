"""Following what a node says about another: MOVED and ASK
(https://valkey.io/topics/cluster-spec/#redirection-and-resharding).

All happens in the callback that reads the refusal, so commands of one key stay in their order.

* MOVED: the slot has another owner, for good. The map learns it, and the command goes on there.
* ASK: this key is already there, others are not. ASKING and the command go there as one payload,
  which nothing can come between. What names several keys may be refused there as well, so what
  comes after it waits for it.

What has been sent from node to node more than ``AT_ONCE`` times waits a moment after each MOVED
before it is sent again, since the nodes do not agree yet; after as many more as there may be
retries it fails with what was said last.
"""

from __future__ import annotations

from asyncio import Future
from collections.abc import Sequence
from functools import partial
from time import monotonic
from typing import Any, Final

from redisutils.address import Address
from redisutils.connection.error_replies import refusal_of
from redisutils.connection.packing import OwnPayload, pack
from redisutils.connection.reply import Batch, Reply
from redisutils.errors import (
    CommandTimeout,
    ConnectionLost,
    Outcome,
    code_of,
    outcome_of,
    with_outcome,
)
from redisutils.pool.judgement import refused_by_the_server, repeatable
from redisutils.retry import TRANSIENT
from redisutils.topology.cluster.keys import SLOTS, slots_in
from redisutils.topology.cluster.node import Node
from redisutils.topology.cluster.roles import Known, LaneOver

__all__ = ["AT_ONCE", "FOLLOWED", "MULTI", "Redirects", "is_anybodys", "is_asking", "redirection"]

AT_ONCE: Final = 3
"""How often one command is handed on without a pause."""

MULTI: Final = pack(("MULTI",))
"""How a transaction begins."""

ASKING: Final = pack(("ASKING",))
"""What goes before a command that is sent to a node by way of exception."""

_PORTS: Final = range(1, 65536)

FOLLOWED: Final = frozenset({"MOVED", "ASK"})
"""The refusals that name another node."""


def redirection(refusal: object, asked: Address) -> tuple[int, Address] | None:
    """The slot of MOVED or ASK, and where it says that it is; None if it does not say, or there is
    no such slot or port.

    Args:
        asked: who said so: a node that does not name the host means its own.
    """
    slot, host = getattr(refusal, "slot_id", None), getattr(refusal, "host", None)
    port = getattr(refusal, "port", None)
    if slot is None or int(slot) not in range(SLOTS) or not port or int(port) not in _PORTS:
        return None
    return int(slot), Address(asked.host if host in (None, "", "?") else str(host), int(port))


def is_asking(reply: Reply) -> bool:
    """Whether it was made for an ASK, of another reply."""
    return reply.payload.startswith(ASKING)


def is_anybodys(reply: Reply) -> bool:
    """Whether any node may answer it: it has no key, and is meant for none of them."""
    return type(reply.payload) is bytes and not slots_in(reply.payload)


class Redirects:
    """What a node's lane asks when it is refused. See :class:`redisutils.pool.router.Router`.

    Args:
        lane: over the cluster.
        node: whose lane asks.
        cluster: who knows the others.
    """

    __slots__ = ("_cluster", "_lane", "_node")

    def __init__(self, lane: LaneOver, node: Node, cluster: Known) -> None:
        self._lane = lane
        self._node = node
        self._cluster = cluster

    # -- what the node's lane tells us ---------------------------------------------------

    def on_refused(self, reply: Reply, value: Any, code: str) -> bool:
        if is_asking(reply):
            return False  # looked at when it is done: see _asked
        if isinstance(reply, Batch):
            if not reply.payload.startswith(MULTI):
                return self.on_partly_refused(reply, value) or self._elsewhere(reply, code)
            if code in FOLLOWED:
                value = next(each for each in value if code_of(each) == code)
        if code in FOLLOWED:
            return self._follow(reply, value, code)
        if self._elsewhere(reply, code):
            return True
        # What names some keys that are there and some that have gone: those that come after it, and
        # name but one of them, would be executed by the other node meanwhile.
        return code == "TRYAGAIN" and self._pause(reply, value, code)

    def on_partly_refused(self, batch: Batch, values: list[Any]) -> bool:
        if is_asking(batch):
            return False
        if batch.payload.startswith(MULTI):
            # Valkey refuses the EXEC alone: nothing was executed.
            code = code_of(values[-1])
            return (code in FOLLOWED and self._follow(batch, values[-1], code)) or self._pause(
                batch, values[-1], code
            )
        places = [place for place, value in enumerate(values) if code_of(value) in FOLLOWED]
        if not places:
            return False

        def follow(place: int, reply: Reply) -> None:
            refusal = values[place]
            if not self._follow(reply, refusal, code_of(refusal)):
                reply.future.set_exception(refusal)

        self._lane.resending.scatter(batch, values, places, follow)
        self._lane.fences.passed(batch)
        return True

    def on_lost(self, again: Sequence[Reply]) -> list[Reply]:
        self._cluster.suspect(self._node)
        kept: list[Reply] = []
        for reply in again:
            if is_asking(reply) or not self._is_ours(reply) or is_anybodys(reply):
                self._lane.reroute(reply)
                self._lane.fences.passed(reply)
            else:
                kept.append(reply)
        return kept

    def on_silent(self) -> None:
        self._cluster.suspect(self._node)

    # -- following ---------------------------------------------------------------------

    def _follow(self, reply: Reply, refusal: Any, code: str) -> bool:
        """Hand ``reply`` on to the node that ``refusal`` names."""
        named = redirection(refusal, self._node.address)
        if named is None or self._too_often(reply) or monotonic() >= reply.deadline:
            return False
        slot, announced = named
        node = self._cluster.node_at(announced)
        if reply.fate is not Outcome.UNKNOWN:
            reply.fate = Outcome.REJECTED
        if isinstance(reply, Batch):
            reply.values = []
        asks = code == "ASK"
        if asks and not self._lane.fences.may_ask(self._node, slot, reply, refusal):
            return True  # not for want of agreement: it counts as no attempt
        reply.redirects += 1
        self._cluster.metrics.retried(code, (reply,))
        if asks:
            self._ask(node, reply)
            return True
        self._cluster.moved(slot, node)
        pause = 0.0
        if reply.redirects > AT_ONCE:
            backoff = self._cluster.settings.retry.backoff
            pause = backoff.delay(reply.redirects - AT_ONCE)
        self._lane.fences.refuse(self._node, slot, reply, refusal, pause)
        return True

    def _elsewhere(self, reply: Reply, code: str) -> bool:
        """A refusal for the moment. By a node that is not to be asked any more, the moment is
        over."""
        if code not in TRANSIENT:
            return False
        self._cluster.refresher.want()
        if self._is_ours(reply) or self._too_often(reply):
            return False
        reply.redirects += 1
        if isinstance(reply, Batch):
            reply.values = []
        self._lane.reroute(reply)
        self._lane.fences.passed(reply)
        return True

    def _too_often(self, reply: Reply) -> bool:
        policy = self._cluster.settings.retry
        pauses = 0 if policy.mode == "never" else policy.max_retries
        return reply.redirects >= AT_ONCE + pauses

    def _is_ours(self, reply: Reply) -> bool:
        owners = self._cluster.owners
        return all(owners[slot] is self._node for slot in slots_in(reply.payload))

    # -- ASK ---------------------------------------------------------------------------

    def _ask(self, node: Node, reply: Reply) -> None:
        size = reply.size if isinstance(reply, Batch) else 1
        loop = self._lane.loop
        asking = Batch(
            Future(loop=loop),
            OwnPayload(ASKING + reply.payload),
            reply.decode,
            reply.issued,
            reply.timeout,
            1 + size,
        )
        asking.fate = reply.fate
        asking.future.add_done_callback(partial(self._asked, node, reply))
        reply.future.add_done_callback(partial(_give_up, asking))
        self._lane.hand_over(asking, partial(self._lane.lane_of, node))

    def _asked(self, node: Node, reply: Reply, future: Future[list[Any]]) -> None:
        """``node`` was asked, by way of exception."""
        error = None if future.cancelled() else future.exception()
        if reply.done():
            return  # the caller has gone
        if future.cancelled():  # by a loop that ends
            reply.future.cancel()
        elif error is not None:
            self._asked_in_vain(reply, error)
        else:
            self._lane.redirects_of(node).answer(reply, future.result()[1:])

    def answer(self, reply: Reply, answers: list[Any]) -> None:
        """These came from our node. Refusals are followed on."""
        codes = [code_of(answer) for answer in answers if isinstance(answer, Exception)]
        value: Any = answers if isinstance(reply, Batch) else answers[0]
        code = refusal_of(answers, codes) if codes else None
        if code is not None:
            if code in TRANSIENT:
                self._cluster.refresher.want()
            elif self.on_refused(reply, value, code):
                return
            if self._pause(reply, value, code):
                return
        elif codes and isinstance(reply, Batch) and self.on_partly_refused(reply, answers):
            return
        if isinstance(value, Exception):
            reply.fail(value, self._cluster.metrics)
        else:
            reply.future.set_result(value)

    def _pause(self, reply: Reply, refusal: Any, code: str) -> bool:
        """Refused for the moment by who was asked by way of exception, or as a transaction: issue
        it again after a while."""
        policy = self._cluster.settings.retry
        if not (policy.may_repeat_rejected(code) and refused_by_the_server(reply)):
            return False
        slots = slots_in(reply.payload)
        if not slots or reply.tries() > policy.max_retries:
            return False
        delay = policy.backoff.delay(reply.attempts)
        if monotonic() + delay >= reply.deadline:
            return False
        if reply.fate is not Outcome.UNKNOWN:
            reply.fate = Outcome.REJECTED
        self._cluster.metrics.retried(code, (reply,), delay)
        if isinstance(reply, Batch):
            reply.values = []
        self._lane.fences.refuse(self._node, slots[0], reply, refusal, delay)
        return True

    def _asked_in_vain(self, reply: Reply, error: BaseException) -> None:
        policy = self._cluster.settings.retry
        if outcome_of(error) is Outcome.UNKNOWN:
            reply.fate = Outcome.UNKNOWN
            may_resend = policy.may_resend(partial(repeatable, reply))
        else:
            may_resend = policy.mode != "never"
        if (
            may_resend
            and isinstance(error, ConnectionLost)
            and not isinstance(error, CommandTimeout)
            and reply.tries() <= policy.max_retries
            and monotonic() < reply.deadline
        ):
            self._lane.reroute(reply)
            self._lane.fences.passed(reply)
        else:
            if isinstance(error, CommandTimeout) and not reply.is_own:
                self._cluster.metrics.ran_out(error)
            reply.fail(with_outcome(error, reply.fate), self._cluster.metrics)


def _give_up(asking: Reply, awaited: Future[Any]) -> None:
    """Who waited for the answer has gone, perhaps before it was asked for."""
    if awaited.cancelled():
        asking.future.cancel()
