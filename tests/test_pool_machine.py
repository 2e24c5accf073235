"""The pool against everything that can happen to it, in any order that hypothesis can think of.

The event loop is turned by hand and its clock is ours, so that each run is repeatable: callers
come, wait, time out and are cancelled, phases last, succeed and fail, things cannot be closed, and
the pool is resized, sifted, waited for and closed between any two turns of the loop. After every
step its books must balance; at the end it must be whole.
"""

from __future__ import annotations

import asyncio
import itertools
from math import inf
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from redisutils.errors import PoolClosed, PoolTimeout
from redisutils.pool.pool import Lease, Pool, Timeouts, Usage

from .things import PHASES, Refused, Thing, Things, pool_of

TURNS = st.sampled_from([0, 0, 1, 3])
"""How often the loop turns after a step, before the next."""


class HandLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock goes only when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.trouble: list[dict[str, Any]] = []
        self.set_exception_handler(lambda _, context: self.trouble.append(context))

    def time(self) -> float:
        return self.now

    def turn(self, count: int = 1) -> None:
        if not count:
            return

        async def nothing() -> None:
            for _ in range(count - 1):
                await asyncio.sleep(0)

        self.run_until_complete(nothing())


class Caller:
    """One ``pool.get``, from its first step to the lease's end."""

    numbers = itertools.count()

    def __init__(self, wait: float) -> None:
        self.number = next(self.numbers)
        self.wait = wait
        self.deadline = inf
        self.task: asyncio.Task[None]
        self.state = "not begun"  # asking, served (in a phase), holding, vacant, over
        self.lease: Lease[Thing] | None = None


class Recorded(Things):
    """Things whose phases may last until they are ended, well or badly; whose first phase it is
    is noted."""

    def __init__(self) -> None:
        super().__init__()
        self.lasting: set[str] = set()
        self.pending: list[asyncio.Future[None]] = []
        self.begun: Any = None
        self.stubborn = False
        """Whether closing one raises."""

    def play(self, phase: str, thing: Thing | None = None) -> Any:
        self.begun()
        if thing is not None:
            assert not thing.closings, f"{thing} is closed, and yet in {phase}"
            assert thing not in self.detached
        if phase not in self.lasting:
            return None
        pending = asyncio.get_running_loop().create_future()
        self.pending.append(pending)
        return pending

    def discard(self, item: Thing) -> None:
        super().discard(item)
        assert item.closings == 1
        assert item not in self.detached
        if self.stubborn:
            raise Refused("does not close")


class PoolMachine(RuleBasedStateMachine):
    """See the module's docstring."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = HandLoop()
        self.callers: list[Caller] = []
        self.spares: list[asyncio.Task[bool]] = []
        self.spares_begun = 0
        self.drains: list[asyncio.Task[None]] = []
        self.things = Recorded()
        self.things.begun = self._first_phase
        self.pool: Pool[Thing]

    @initialize(
        max_size=st.integers(1, 4),
        lent=st.integers(0, 4),
        idle=st.integers(0, 4),
        lifo=st.booleans(),
        hooks=st.booleans(),
        bounded=st.booleans(),
        lasting=st.sets(st.sampled_from(PHASES)),
    )
    def open(
        self,
        max_size: int,
        lent: int,
        idle: int,
        lifo: bool,
        hooks: bool,
        bounded: bool,
        lasting: set[str],
    ) -> None:
        self.pool = pool_of(
            self.things,
            max_size,
            hooks=hooks,
            queue_mode="lifo" if lifo else "fifo",
            timeouts=Timeouts(create=7.0, recycle=5.0) if bounded else Timeouts(),
        )
        self.come(0.0, min(lent, max_size), 1)
        for caller in self.callers[:idle]:
            assert caller.lease is not None
            lease, caller.lease, caller.state = caller.lease, None, "over"
            lease.release()
        self.things.lasting = lasting

    # -- callers --

    async def _call(self, caller: Caller) -> None:
        caller.state = "asking"
        caller.deadline = self.loop.now + caller.wait
        try:
            at_once = self.pool.get_at_once()
            if at_once is None:
                lease = await self.pool.get(wait=caller.wait)
            else:
                lease = at_once
                self._first_phase()
        except (Refused, PoolTimeout, PoolClosed) as error:
            if isinstance(error, PoolTimeout) and error.phase == "wait":
                assert caller.state == "asking"
                assert caller.wait == 0 or self.loop.now >= caller.deadline
            if isinstance(error, PoolClosed):
                assert self.pool.closed
            caller.state = "over"
        except asyncio.CancelledError:
            caller.state = "over"
            raise
        else:
            assert lease.item not in [c.lease.item for c in self.callers if c.lease is not None]
            assert not lease.item.closings
            caller.lease = lease
            caller.state = "holding"

    def _first_phase(self) -> None:
        """A phase begins: if it is the caller's first, nobody who came before him may be waiting
        without a permit on its way."""
        task = asyncio.current_task()
        caller = next((caller for caller in self.callers if caller.task is task), None)
        if caller is None or caller.state != "asking":
            return
        caller.state = "served"
        earlier = [
            other
            for other in self.callers
            if other.state == "asking"
            and other.number < caller.number
            and not other.task.cancelling()
            and other.deadline > self.loop.now
        ]
        held = sum(other.state in ("served", "holding", "vacant") for other in self.callers)
        on_their_way = self.pool.in_use - held - self.spares_begun
        assert len(earlier) <= on_their_way, f"{caller.number} was served before {len(earlier)}"

    @rule(wait=st.sampled_from([inf, inf, 0.0, 3.0]), count=st.integers(1, 3), then=TURNS)
    def come(self, wait: float, count: int, then: int) -> None:
        for _ in range(count):
            caller = Caller(wait)
            self.callers.append(caller)
            caller.task = self.loop.create_task(self._call(caller))
        self.loop.turn(then)

    @precondition(lambda self: any(not c.task.done() for c in self.callers))
    @rule(data=st.data(), then=TURNS)
    def cancel(self, data: st.DataObject, then: int) -> None:
        going = [caller for caller in self.callers if not caller.task.done()]
        caller = data.draw(st.sampled_from(going), "whom")
        if caller.state != "vacant":  # has a lease to give back, and has not begun
            caller.task.cancel()
        self.loop.turn(then)

    @precondition(lambda self: any(c.lease for c in self.callers))
    @rule(
        data=st.data(),
        how=st.sampled_from(["back", "fresh", "unfit", "discard", "take"]),
        then=TURNS,
    )
    def give(self, data: st.DataObject, how: str, then: int) -> None:
        holders = [caller for caller in self.callers if caller.lease is not None]
        caller = data.draw(st.sampled_from(holders), "who")
        assert caller.lease is not None
        lease, caller.lease, caller.state = caller.lease, None, "over"
        if how == "take":
            self.things.detached.add(lease.take())
        else:
            lease.item.fit = how != "unfit"
            lease.item.fresh = how == "fresh"
            lease.release(discard=how == "discard")
        lease.release()  # twice is once
        self.loop.turn(then)

    @precondition(lambda self: any(c.lease for c in self.callers))
    @rule(data=st.data(), then=TURNS)
    def vacate(self, data: st.DataObject, then: int) -> None:
        """Somebody's thing dies. He keeps his place, and takes another thing."""
        holders = [caller for caller in self.callers if caller.lease is not None]
        caller = data.draw(st.sampled_from(holders), "whose")
        assert caller.lease is not None
        lease, caller.lease, caller.state = caller.lease, None, "vacant"
        self.pool.vacate(lease)
        caller.task = self.loop.create_task(self._refill(caller, lease))
        self.loop.turn(then)

    async def _refill(self, caller: Caller, lease: Lease[Thing]) -> None:
        caller.state = "served"
        try:
            await self.pool.refill(lease, create=7.0, recycle=5.0)
        except (Refused, PoolTimeout, PoolClosed, asyncio.CancelledError) as error:
            caller.state = "over"
            lease.release()
            if isinstance(error, asyncio.CancelledError):
                raise
        else:
            caller.lease = lease
            caller.state = "holding"

    # -- phases --

    @rule(phase=st.sampled_from(PHASES))
    def last_or_not(self, phase: str) -> None:
        self.things.lasting ^= {phase}

    @precondition(lambda self: self.things.pending)
    @rule(data=st.data(), well=st.sampled_from([True, True, False]), then=TURNS)
    def end_a_phase(self, data: st.DataObject, well: bool, then: int) -> None:
        pending = data.draw(st.sampled_from(self.things.pending), "which")
        self.things.pending.remove(pending)
        if pending.done():
            return  # whoever waited for it was cancelled
        if well:
            pending.set_result(None)
        else:
            pending.set_exception(Refused())
        self.loop.turn(then)

    # -- the whole pool --

    @rule(by=st.sampled_from([-2, -1, -1, 1, 2]))
    def resize(self, by: int) -> None:
        max_size = max(0, self.pool.status().max_size + by)
        self.pool.resize(max_size)
        assert self.pool.status().max_size == (0 if self.pool.closed else max_size)

    @rule(keep=st.booleans())
    def retain(self, keep: bool) -> None:
        idle = len(self.pool.idle())
        result = self.pool.retain(lambda thing, _: keep or bool(thing.number % 2))
        assert result.retained + len(result.removed) == idle
        for thing in result.removed:
            self.pool.discard(thing)

    @rule()
    def sift_with_a_predicate_that_fails(self) -> None:
        idle = self.pool.idle()

        def fail(thing: Thing, usage: Usage) -> bool:
            if thing is idle[-1][0]:
                raise Refused
            return False

        if idle:
            with pytest.raises(Refused):
                self.pool.retain(fail)
        assert self.pool.idle() == idle

    @rule()
    def close_well_or_not(self) -> None:
        self.things.stubborn = not self.things.stubborn

    @rule(then=TURNS)
    def wait_until_drained(self, then: int) -> None:
        self.drains.append(self.loop.create_task(self.pool.drained()))
        self.loop.turn(then)

    @precondition(lambda self: any(not task.done() for task in self.drains))
    @rule()
    def wait_no_more(self) -> None:
        next(task for task in self.drains if not task.done()).cancel()

    async def _add_spare(self) -> bool:
        self.spares_begun += 1
        try:
            return await self.pool.add_idle()
        finally:
            self.spares_begun -= 1

    @rule(then=TURNS)
    def make_a_spare(self, then: int) -> None:
        self.spares.append(self.loop.create_task(self._add_spare()))
        self.loop.turn(then)

    @precondition(lambda self: any(not task.done() for task in self.spares))
    @rule()
    def cancel_a_spare(self) -> None:
        next(task for task in self.spares if not task.done()).cancel()

    @precondition(lambda self: len(self.callers) > 6)
    @rule(sure=st.integers(0, 9))
    def close(self, sure: int) -> None:
        if sure == 0:
            self.pool.close()

    # -- time --

    @rule(count=st.integers(1, 4))
    def turn(self, count: int) -> None:
        self.loop.turn(count)

    @rule(seconds=st.sampled_from([1.0, 3.0, 8.0]))
    def pass_time(self, seconds: float) -> None:
        self.loop.now += seconds

    # -- what must hold after every step --

    @invariant()
    def books_balance(self) -> None:
        if not hasattr(self, "pool"):
            return
        pool, things = self.pool, self.things
        state = pool.status()
        assert state.size == things.alive
        users = sum(c.state in ("asking", "served", "holding") for c in self.callers)
        users += self.spares_begun
        assert state.available == max(0, state.size - users)
        assert state.waiting == max(0, users - state.size)
        held = sum(c.state in ("served", "holding", "vacant") for c in self.callers)
        held += self.spares_begun
        asking = sum(c.state == "asking" for c in self.callers)
        permits = pool._permits
        assert held <= pool.in_use <= held + asking
        assert 0 <= permits.free <= state.max_size
        assert permits._debt >= 0
        assert pool.in_use == state.max_size + permits._debt - permits.free
        idle = pool.idle()
        assert state.size <= state.max_size + permits._debt
        assert not idle or state.size <= state.max_size
        assert len({id(thing) for thing, _ in idle}) == len(idle)
        lent = {id(c.lease.item) for c in self.callers if c.lease}
        assert lent.isdisjoint(id(thing) for thing, _ in idle)
        assert not (permits.free and any(not waiter.done() for waiter in permits._waiters))
        assert not pool.closed or (not idle and state.max_size == 0)
        assert pool.metrics.connections_created == len(things.made)
        closed = sum(thing.closings for thing in things.made)
        assert pool.metrics.connections_discarded == closed

    def teardown(self) -> None:
        try:
            if hasattr(self, "pool"):
                self._come_to_rest()
        finally:
            for task in (*(caller.task for caller in self.callers), *self.drains):
                task.cancel()
            self.loop.turn(50)
            self.loop.close()
        assert not self.loop.trouble, self.loop.trouble

    def _come_to_rest(self) -> None:
        """Let everybody have his way: all must be served, and then all be there."""
        pool = self.pool
        self.things.lasting.clear()
        pool.resize(max(1, pool.status().max_size))
        for _ in range(10 + 4 * len(self.callers)):
            for pending in self.things.pending:
                if not pending.done():
                    pending.set_result(None)
            self.things.pending.clear()
            self.loop.turn(3)
            for caller in self.callers:
                if caller.lease is not None:
                    lease, caller.lease, caller.state = caller.lease, None, "over"
                    lease.release()
            self.books_balance()
        assert all(caller.task.done() for caller in self.callers), "somebody was forgotten"
        assert all(task.done() for task in self.drains), "it is empty, and somebody waits for that"
        for caller in self.callers:
            if not caller.task.cancelled():
                caller.task.result()
        for spare in self.spares:
            assert spare.done()
            if not spare.cancelled() and spare.exception() is not None:
                assert isinstance(spare.exception(), (Refused, PoolTimeout, PoolClosed))
        assert pool.in_use == pool._permits._debt == pool._making == 0
        assert not pool._permits.waiting
        if pool.closed:
            assert self.things.alive == 0
            return
        leases = [
            self.loop.run_until_complete(pool.get(wait=0)) for _ in range(pool.status().max_size)
        ]
        assert pool.in_use == pool.status().size == len(leases) == pool.status().max_size
        for lease in leases:
            lease.release()


def test_whatever_happens() -> None:
    run_state_machine_as_test(
        PoolMachine,
        settings=settings(
            max_examples=150,
            stateful_step_count=40,
            deadline=None,
            derandomize=True,
            # Shrinking a run of the loop takes minutes, and hardly makes it shorter.
            phases=[Phase.explicit, Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
