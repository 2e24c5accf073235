"""``pool.get()`` where there are many servers: a connection of one's own to the right one.

=====================  ======================================================================
``pool.get(…)``        the connection
=====================  ======================================================================
``node="host:port"``   to this node, a replica too, and stays there
``key="orders:7"``     begins at the owner of the key's slot
neither                begins at any primary
=====================  ======================================================================

The latter two *roam*: a command with a key goes to the owner of its slot, for which the connection
is exchanged for one to there. That ends when the connection holds state: after WATCH or MULTI
until EXEC, DISCARD or UNWATCH, and for good after any other command that changes it. Then a key of
another slot is refused before anything is sent. A server that knows better (MOVED) is believed once
for each command; one that sends a single command elsewhere (ASK), for that command. WAIT, too, is
issued where the connection is, and refused when it was somewhere else for what was written.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final

from redis.exceptions import ResponseError

from redisutils.address import Address
from redisutils.client.coverage import Written
from redisutils.client.lease import Checkout, CheckoutPool, PooledConnection
from redisutils.client.pipeline import Pipeline
from redisutils.client.redis import Redis
from redisutils.client.source import lane_of
from redisutils.commands import keys_of, lookup
from redisutils.connection.protocol import Connection
from redisutils.errors import CommandTimeout, CrossSlot, Outcome, code_of
from redisutils.pool.pool import Lease
from redisutils.topology.cluster.cluster import Cluster
from redisutils.topology.cluster.keys import shown, slot_of, the_slot, the_slot_of_all
from redisutils.topology.cluster.redirects import FOLLOWED
from redisutils.topology.server import Leasing, Redirected

__all__ = ["PlacedCheckout", "RoamingConnection"]

_BEGIN: Final = frozenset({"WATCH", "MULTI"})
_END: Final = frozenset({"UNWATCH", "EXEC", "DISCARD"})


class PlacedCheckout(Checkout):
    """What ``pool.get()`` returns where there are many servers, or a place was asked for.

    Args:
        pool, timeout: as :class:`Checkout` has them.
        key: whose owner; None for any.
        node: the server itself; None for any.
    """

    __slots__ = ("_key", "_node")

    def __init__(
        self, pool: CheckoutPool, timeout: float | None, key: Any, node: Address | None
    ) -> None:
        super().__init__(pool, timeout)
        self._key = key
        self._node = node

    async def __aenter__(self) -> PooledConnection:
        server = self._pool.server
        if self._node is not None:
            checkouts = server.checkouts_at(self._node)
        else:
            checkouts = server.checkouts_for(() if self._key is None else ("GET", self._key))
        lease = checkouts.at_once()
        if lease is None:
            lease = await checkouts.get(self._timeout)
        if self._node is None and isinstance(server, Cluster):
            self._connection = RoamingConnection(self._pool.client, lease, server)
        else:
            self._connection = PooledConnection(self._pool.client, lease)
        return self._connection


class RoamingConnection(PooledConnection):
    """A connection checked out of a cluster's pool, for one caller. See the module's docstring.

    Commands without keys go to the node where it is, which :attr:`node` tells.
    """

    def __init__(self, template: Redis, lease: Lease[Connection], cluster: Cluster) -> None:
        super().__init__(template, lease)
        self._cluster = cluster
        self._watching = False
        self._slot: int | None = None
        self._written = Written()
        self._busy = 0
        self._idle = asyncio.Event()
        self._turn = asyncio.Lock()

    def __repr__(self) -> str:
        return super().__repr__().replace("PooledConnection", type(self).__name__, 1)

    @property
    def node(self) -> str:
        """Where it is now: ``"host:port"``."""
        return self._holder._lease.item.peer

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        """Issue a command, at the owner of its keys' slot. Raises as a client's does, and

        Raises:
            CrossSlot: its keys live in several slots; or in another one than those before, and
                the connection holds state. Or it is WAIT, and something was written elsewhere.
        """
        holder = self._holder
        held = holder._held
        slot = the_slot(args)
        await holder.go(slot, keys_of(args))
        try:
            answer = await self._here(args, options)
        except ResponseError as error:
            redirected = self._cluster.redirected(error)
            if redirected is None or held:
                raise
            command = lookup(args)
            if code_of(error) == "ASK":
                if command.stateful:
                    raise
                return await holder._asked(redirected, args, options)
            await holder.exchange(redirected.checkouts)
            answer = await self._here(args, options)
        holder.note(lookup(args).name, slot)
        holder._written.answered(args, answer)
        return answer

    async def _here(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        """Issue a command where the connection is."""
        holder = self._holder
        with holder.using(args) as issued:
            self._lease = holder._lease  # of a view, which has another one's
            try:
                return await super().execute_command(*args, **options)
            except ResponseError as error:
                if code_of(error) in FOLLOWED:
                    issued.clear()
                raise

    execute = execute_command

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> RoamingPipeline:
        """Commands that leave in one write, to one node. Their keys must live in one slot, or, if
        it is no transaction, at one node."""
        return RoamingPipeline(self, transaction, shard_hint)

    # -- roaming -----------------------------------------------------------------------

    @property
    def _holder(self) -> RoamingConnection:
        holder = super()._holder
        assert isinstance(holder, RoamingConnection)
        return holder

    @property
    def _held(self) -> bool:
        """Whether there is state that another connection would not have. One that was taken from
        the pool stays what it is, too."""
        return self._watching or self._lease.item.tainted or self._lease.released

    def note(self, name: str, slot: int | None) -> None:
        """This command has succeeded."""
        if name in _BEGIN:
            self._watching = True
        elif name in _END:
            self._watching = False
        if slot is not None and self._held:
            self._slot = slot
        elif not self._held:
            self._slot = None

    async def go(self, slot: int | None, keys: Sequence[bytes]) -> None:
        """Be at the owner of ``slot``, of which ``keys`` are.

        Raises:
            CrossSlot: the connection holds state of another slot.
        """
        connection = self._usable()
        if slot is None:
            return
        if self._held:
            at_owner = self._slot is None and self._is_at(slot)
            if slot != self._slot and not at_owner:
                raise self._elsewhere(slot, keys, connection)
            self._slot = slot
        elif not self._is_at(slot):
            async with self._alone():
                if not self._is_at(slot):
                    await self._exchange(self._cluster.checkouts_for(("GET", keys[0])))

    def _elsewhere(self, slot: int, keys: Sequence[bytes], connection: Connection) -> CrossSlot:
        where = "" if self._slot is None else f" for slot {self._slot}"
        return CrossSlot(
            f"the key {shown(keys[0])} lives in slot {slot} of another node, and this connection "
            f"cannot go there: at {connection.peer} it holds state{where} (WATCH, MULTI, a "
            "setting), or it was taken from its pool. Begin with "
            f"async with pool.get(key={shown(keys[0])}) as conn, and give keys that belong "
            "together the same hash tag"
        )

    def _is_at(self, slot: int) -> bool:
        owner = self._cluster.owners[slot]
        server = None if owner is self._cluster.nowhere else owner.opened
        return server is not None and server.options.peer == self._lease.item.peer

    async def exchange(self, checkouts: Leasing) -> None:
        """Have a connection from there instead."""
        async with self._alone():
            await self._exchange(checkouts)

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """One after the other, and none while commands are in flight.

        Raises:
            CommandTimeout: these are not answered within a command's budget.
        """
        try:
            async with asyncio.timeout(self._timeout):
                await self._turn.acquire()
                try:
                    while self._busy:
                        self._idle.clear()
                        await self._idle.wait()
                except BaseException:  # cancelled or out of time: it is the next one's turn
                    self._turn.release()
                    raise
        except TimeoutError:
            error = CommandTimeout(
                f"waited {self._timeout:.3g} s for what other tasks do on this connection to "
                f"{self.node}, which cannot go to another node meanwhile: take one for each task",
                outcome=Outcome.NOT_SENT,
            )
            self._cluster.metrics.ran_out(error)
            self._cluster.metrics.failed(error)
            raise error from None
        try:
            yield
        finally:
            self._turn.release()

    async def _exchange(self, checkouts: Leasing) -> None:
        self._usable()
        lease = checkouts.at_once() or await checkouts.get(self._timeout)
        try:
            self._usable()
        except Exception:  # ours was given back meanwhile: nobody will have the new one
            lease.release()
            raise
        old, self._lease = self._lease, lease
        self._lane = lane_of(lease.item)
        old.release()

    @contextmanager
    def using(self, *commands: tuple[Any, ...]) -> Iterator[list[tuple[Any, ...]]]:
        """The connection is not exchanged within, where these are issued over it. What is taken
        from the list that this gives was not executed.

        Raises:
            CrossSlot: see ``Written.check``.
        """
        connection = self._usable()
        for args in commands:
            self._written.check(args, connection)
        issued = list(commands)
        self._busy += 1
        try:
            yield issued
        finally:
            for args in issued:
                self._written.note(args, connection)
            self._busy -= 1
            if not self._busy:
                self._idle.set()

    async def _asked(
        self, redirected: Redirected, args: tuple[Any, ...], options: dict[str, Any]
    ) -> Any:
        """Issue one command at the node that a slot is being moved to."""
        checkouts = redirected.checkouts
        lease = checkouts.at_once() or await checkouts.get(self._timeout)
        try:
            self._written.note(args, lease.item)
            lane = redirected.lane_over(lane_of(lease.item))
            return await self._ask(lane, args, options, self._budget(lookup(args), args))
        finally:
            lease.release()


class RoamingPipeline(Pipeline):
    """A pipeline on a connection that roams."""

    _client: RoamingConnection
    _watched = False

    @property
    def _holder(self) -> RoamingConnection:
        return self._client._holder

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """See ``Pipeline.immediate_execute_command``. Raises also CrossSlot."""
        holder = self._holder
        held = holder._held
        slot = the_slot(args)
        await holder.go(slot, keys_of(args))
        try:
            answer = await self._at_once(args, options)
        except ResponseError as error:
            redirected = holder._cluster.redirected(error)
            if redirected is None or held or code_of(error) == "ASK":
                raise
            await holder.exchange(redirected.checkouts)
            answer = await self._at_once(args, options)
        name = lookup(args).name
        self._watched = self._watched or name == "WATCH"
        holder.note(name, slot)
        holder._written.answered(args, answer)
        return answer

    async def _at_once(self, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        with self._holder.using(args) as issued:
            try:
                return await super().immediate_execute_command(*args, **options)
            except ResponseError as error:
                if code_of(error) in FOLLOWED:
                    issued.clear()
                raise

    async def _send(self, commands: list[tuple[Any, ...]], stack: Any) -> list[Any]:
        holder = self._holder
        held = holder._held
        keys = [key for words in commands for key in keys_of(words)]
        await holder.go(self._the_slot(commands, keys, held), keys)
        answers = await self._all_here(commands, stack)
        refused = self._all_refused(answers)
        redirected = None if refused is None else holder._cluster.redirected(refused)
        if redirected is None or held:
            return answers
        await holder.exchange(redirected.checkouts)
        return await self._all_here(commands, stack)

    async def _all_here(self, commands: list[tuple[Any, ...]], stack: Any) -> list[Any]:
        holder = self._holder
        with holder.using(*commands) as issued:
            answers = await super()._send(commands, stack)
            if self._all_refused(answers) is not None:
                issued.clear()
            elif not self._in_transaction:
                holder._written.run(commands, answers, holder._lease.item)
                issued.clear()
        return answers

    def _all_refused(self, answers: Sequence[Any]) -> Any:
        """With MOVED, of which this gives one, and nothing was done; else None."""
        refused = [answer for answer in answers if code_of(answer) == "MOVED"]
        nothing_done = self._in_transaction or len(refused) == len(answers)
        return refused[0] if refused and nothing_done else None

    def _the_slot(
        self, commands: list[tuple[Any, ...]], keys: Sequence[bytes], held: bool
    ) -> int | None:
        if not (held or self._in_transaction):
            owners = self._holder._cluster.owners
            if len({owners[slot_of(key)] for key in keys}) <= 1:
                return slot_of(keys[0]) if keys else None
        return the_slot_of_all(commands, "a pipeline on one connection")

    async def reset(self) -> None:  # type: ignore[override]  # as redis-py's: RESET, the command, is another
        """See ``Pipeline.reset``."""
        await super().reset()
        if self._watched:
            self._watched = False
            self._holder.note("UNWATCH", None)
