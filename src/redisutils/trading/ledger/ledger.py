"""One writer for an account: it decides in order, and writes in groups.

How it works. Callers hand in intents. While one group is written, others wait; the next group is
all of them, up to a bound. Each decides in turn, by the records as those before it left them; then
one script writes everything, if nothing that was relied on has changed meanwhile. If something has,
since another process writes to the same account, the script says what it is now and writes nothing,
and the group decides again. So whatever happens equals the intents being done one after the other,
and a group costs one round trip.

What is refused is refused to its caller alone. What is not written is not compared with what is
stored: so nothing is refused, nor answered without a change, by a record that was only remembered;
it is read again first. When the fate of a run is unknown it is run again, finds its own work done,
and each intent recognises what it wrote.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import deque
from collections.abc import Iterable
from typing import Any, NamedTuple, Protocol, TypeVar
from weakref import WeakValueDictionary

from redisutils import RedisPool
from redisutils.errors import ConnectionLost, Outcome
from redisutils.trading.errors import TradingError
from redisutils.trading.ledger.commit import commit_of
from redisutils.trading.ledger.keys import Keys
from redisutils.trading.ledger.view import (
    Cache,
    Field,
    Kind,
    Missing,
    Stored,
    View,
    stored_as,
    unreadable,
)
from redisutils.trading.scripts import Scripts, load

__all__ = ["Intent", "Ledger"]

logger = logging.getLogger("redisutils.trading")

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")

GROUP = 64
"""Intents in one commit at most: about a millisecond of the server's time, which others wait."""

LONGEST_PAUSE = 0.02
"""Seconds before deciding again after several conflicts, at most; each conflict means that somebody
else has written something, so there is always progress."""


class Intent(Protocol[T_co]):
    """What somebody wants of an account."""

    def expected(self, view: View) -> Iterable[tuple[str, Kind[Any]]]:
        """The records that it will probably read, to read those of a group at once."""
        ...

    def decide(self, view: View) -> T_co:
        """Read from the view, then write to it; what is returned is the caller's when it is
        written. Pure: it may be called again, with another view."""
        ...


class _Waiting(NamedTuple):
    intent: Intent[Any]
    future: asyncio.Future[Any]


class Ledger:
    """The writer of one account in this process: see :meth:`of`.

    :param waiting: how many intents may wait before those who hand in more wait themselves.
    :param cached: how many records are remembered, between this and twice as many.
    :param outbox: about how many events the outbox keeps.
    """

    def __init__(
        self,
        pool: RedisPool,
        keys: Keys,
        *,
        waiting: int = 10_000,
        cached: int = 20_000,
        outbox: int = 1_000_000,
    ) -> None:
        self.keys = keys
        self._scripts = Scripts(pool, lane="ledger")
        self._write, self._read = load("ledger"), load("ledger_read")
        self._cache = Cache(cached)
        self._outbox = outbox
        self._waiting: deque[_Waiting] = deque()
        self._room = asyncio.Semaphore(waiting)  # which lets in who came first
        self._task: asyncio.Task[None] | None = None

    @classmethod
    def of(cls, pool: RedisPool, keys: Keys, outbox: int) -> Ledger:
        """The account's, shared by all services of this process that were made with this pool."""
        # The ledger holds its pool, so as long as it is here, no other pool has this id.
        at = id(pool), keys.base, outbox
        ledger = _LEDGERS.get(at)
        if ledger is None:
            ledger = _LEDGERS[at] = cls(pool, keys, outbox=outbox)
        return ledger

    def __repr__(self) -> str:
        return (
            f"<Ledger {self.keys.base} waiting={len(self._waiting)} cached={len(self._cache)} "
            f"{'idle' if self._task is None else 'writing'}>"
        )

    async def submit(self, intent: Intent[T]) -> T:
        """Have something decided and written.

        Who is cancelled while it waits in the queue has changed nothing; what is being decided or
        written goes on, and if it fails or is refused then, the log ``redisutils.trading`` says so.

        :raises TradingError: it was refused, and changed nothing.
        :raises redis.RedisError: it could not be written, or, after ``Outcome.UNKNOWN``, may or may
            not have been: hand it in again to know.
        """
        return await (await self.hand_in(intent))

    async def hand_in(self, intent: Intent[T]) -> asyncio.Future[T]:
        """As :meth:`submit`, but returns as soon as there is room in the queue; the future tells
        the rest."""
        await self._room.acquire()
        future: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(intent, future))
        self._start()
        return future

    async def drained(self) -> None:
        """Wait until all that was handed in before is written, refused or failed, whatever is
        handed in later."""
        last = await self.hand_in(_Nothing())
        await asyncio.wait({last})
        last.exception()  # which those were told who handed in something

    # -- the writer --------------------------------------------------------------------------

    def _start(self) -> None:
        if self._task is None:
            self._task = asyncio.create_task(self._run(), name=f"ledger {self.keys.base}")

    async def _run(self) -> None:
        try:
            while self._waiting:
                group = self._taken()
                try:
                    await self._settle(group)
                except asyncio.CancelledError:
                    self._fail(
                        group,
                        ConnectionLost(
                            f"the writer of {self.keys.base} was cancelled", outcome=Outcome.UNKNOWN
                        ),
                    )
                    raise
                except Exception as error:  # noqa: BLE001  # whatever it is, its callers are told
                    self._fail(group, error)
        finally:
            self._task = None
            # Who cancels all tasks does not leave those hanging who come after.
            if any(not one.future.done() for one in self._waiting):
                self._start()

    def _taken(self) -> list[_Waiting]:
        group: list[_Waiting] = []
        while self._waiting and len(group) < GROUP:
            one = self._waiting.popleft()
            self._room.release()
            if not one.future.done():
                group.append(one)
        return group

    async def _settle(self, group: list[_Waiting]) -> None:
        fresh: dict[str, Stored] = {}
        known: dict[Field, Any] = {}
        gone: set[str] = set()
        conflicts = 0
        while True:
            view = View(self._cache, fresh, known, gone)
            outcomes = await self._decided(group, view)
            if not (view.changed or view.named):
                break
            commit = commit_of(view, self.keys, self._outbox)
            try:
                reply = await self._scripts.run(self._write, commit.keys, commit.arguments)
            except BaseException:  # cancelled, too: nobody knows what is stored under these keys
                for key in view.changed:
                    self._cache.forget(key)
                raise
            if reply[0] == 1:
                for key, (_, record, _) in view.changed.items():
                    self._cache.put(key, Stored(commit.name, record))
                break
            fresh, found, expired = commit.conflicts(reply)
            known |= found  # a name that is taken stays so
            gone |= expired
            for key, stored in fresh.items():
                self._cache.learn(key, stored)
            conflicts += 1
            if conflicts > 1:
                longest = min(LONGEST_PAUSE, 0.0005 * 2 ** min(conflicts, 10))
                await asyncio.sleep(random.uniform(0, longest))
        for one, outcome in zip(group, outcomes, strict=True):
            if not isinstance(outcome, _Refusal):
                if not one.future.done():
                    one.future.set_result(outcome)
            elif one.future.done():
                error = outcome.error
                logger.warning("%s: refused, after its caller had gone: %s", self.keys.base, error)
            else:
                one.future.set_exception(outcome.error)

    def _fail(self, group: list[_Waiting], error: BaseException) -> None:
        waiting = [one for one in group if not one.future.done()]
        for one in waiting:
            one.future.set_exception(error)
        if gone := len(group) - len(waiting):
            logger.error(
                "%s: of %d changes whose callers had gone it is not known whether they were "
                "written: %s",
                self.keys.base,
                gone,
                error,
            )

    async def _decided(self, group: list[_Waiting], view: View) -> list[Any]:
        for _ in range(2):  # what is expected after the first reading depends on what was read
            unread = {
                key: kind
                for one in group
                for key, kind in one.intent.expected(view)
                if not view.knows(key)
            }
            if not unread:
                break
            await self._load(view, Missing(unread.items()))
        return [await self._one_decided(one.intent, view) for one in group]

    async def _one_decided(self, intent: Intent[Any], view: View) -> Any:
        while True:
            view.begin()
            told = len(view.events)
            try:
                outcome = intent.decide(view)
                if len(view.events) > told or not (stale := view.stale()):
                    return outcome
                await self._load(view, stale)
            except Missing as missing:
                await self._load(view, missing)
            except TradingError as error:
                if not (stale := view.stale()):
                    return _Refusal(error)
                await self._load(view, stale)
            except Exception as error:  # noqa: BLE001  # the others of the group have no part in it
                return _Refusal(error)

    async def _load(self, view: View, missing: Missing) -> None:
        keys = [key for key, _ in missing.records]
        words = ["r"] * len(keys)
        for key, field in missing.fields:
            keys.append(key)
            words.append(f"f{field}" if field else "s")
        keys += missing.lists
        words += ["l"] * len(missing.lists)
        found = iter(await self._scripts.run(self._read, keys, words))
        if missing.records:
            view.distrust()
        for (key, kind), reply in zip(missing.records, found, strict=False):
            stored = _stored(kind, key, reply)
            view.learn(key, stored)
            self._cache.learn(key, stored)
        for at, value in zip(missing.fields, found, strict=False):
            view.fields[at] = value
        for key, names in zip(missing.lists, found, strict=True):
            view.lists[key] = tuple(name.decode() for name in names)


_LEDGERS: WeakValueDictionary[tuple[int, str, int], Ledger] = WeakValueDictionary()


class _Refusal(NamedTuple):
    error: Exception


class _Nothing:
    """Wants nothing: it is done when all before it are."""

    def expected(self, view: View) -> Iterable[tuple[str, Kind[Any]]]:
        return ()

    def decide(self, view: View) -> None:
        return None


def _stored(kind: Kind[Any], key: str, reply: Any) -> Stored:
    if isinstance(reply, Exception):
        return unreadable(key, reply)
    version, text = reply
    return stored_as(kind, key, version or b"", text or b"")
