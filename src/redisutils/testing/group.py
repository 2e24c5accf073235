"""What all groups of servers have in common: they start and end as one."""

from __future__ import annotations

import asyncio
import secrets
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from types import TracebackType
from typing import Self, TypeVar

from redisutils.connection.directives import Directives, quoted
from redisutils.connection.supervision import in_thread
from redisutils.errors import ConnectFailed

from ._asking import Deadline
from .server import EmbeddedServer

__all__ = ["ServerGroup", "at_once", "data_node_directives", "password_or_new"]

_T = TypeVar("_T")


class ServerGroup(ABC):
    """Servers that start together, are arranged into something, and end together.

    ``async with`` and ``with``, as for :class:`EmbeddedServer`; a group belongs to no event loop.
    A start that fails or is cancelled leaves no process and no file behind, and neither does the
    death of the program. Each member can be killed, paused and started again by its own methods.
    What a group does concerns the members that run and are not paused at that moment.

    Operations raise ConnectTimeout past their ``timeout`` (s), with what was still missing, and
    redis-py's errors when a server refuses.
    """

    def __init__(self, members: Sequence[EmbeddedServer], startup_timeout: float) -> None:
        self.members = tuple(members)
        """All servers, in the order in which they were made; some groups grow and shrink."""
        self._startup_timeout = startup_timeout
        self._started = False
        self._lock = threading.Lock()  # a group starts or ends, one at a time

    def __repr__(self) -> str:
        alive = sum(member.process.pid is not None for member in self.members)
        state = f"{alive} of {len(self.members)} servers running"
        return f"<{type(self).__name__} {self._summary()}, {state}>"

    async def start(self) -> None:
        """Start all servers at once and arrange them; they are ready for use then.

        :raises ConnectFailed: when one ended instead, or the group runs already.
        :raises ConnectTimeout: when they took too long.
        """
        deadline = Deadline(self._startup_timeout)

        def give_up() -> None:
            deadline.give_up()
            self._abandon()

        try:
            await in_thread(lambda: self._launch(deadline), give_up)
        except asyncio.CancelledError:
            await in_thread(self._close)  # The start may have been just complete.
            raise

    async def stop(self) -> None:
        """End all servers and remove all they had. May be repeated, and the group started again,
        empty. A cancelled call is finished all the same."""
        await in_thread(self._close)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.stop()

    def __enter__(self) -> Self:
        self._launch(Deadline(self._startup_timeout))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._close()

    # --- for the kinds of groups ---

    @abstractmethod
    def _summary(self) -> str:
        """What the group is made of, in a few words."""

    @abstractmethod
    def _arrange(self, deadline: Deadline) -> None:
        """Make a group of servers that have just started; blocking."""

    async def _work(self, timeout: float, work: Callable[[Deadline], _T]) -> _T:
        """Run a blocking operation; a cancelled one is given up at its next wait."""
        deadline = Deadline(timeout)
        return await in_thread(lambda: work(deadline), deadline.give_up)

    # --- blocking ---

    def _launch(self, deadline: Deadline) -> None:
        with self._lock:
            if self._started:
                raise ConnectFailed(f"{self!r} runs already")
            self._started = True
            with ExitStack() as undo:  # some may run already, which nobody would end
                undo.callback(self._end)
                at_once(
                    lambda member: member.process.launch(), self.members, on_error=self._abandon
                )
                self._arrange(deadline)
                undo.pop_all()

    def _close(self) -> None:
        with self._lock:
            self._end()

    def _end(self) -> None:
        # Nothing of them is kept: there is no point in a gentle end.
        at_once(lambda member: member.process.close(grace=0.0), self.members)
        self._started = False

    def _abandon(self) -> None:
        for member in self.members:
            member.process.abandon()


def data_node_directives(password: str, config: Directives | None) -> Directives:
    """Directives of a server that others replicate; ``config`` goes before them."""
    quick: Directives = {
        # The other ways begin, or are seen to have ended, with the next tick of a second.
        "repl-diskless-sync": "no",
        "repl-diskless-load": "on-empty-db",
        "repl-ping-replica-period": 1,
    }
    secret: Directives = {"masterauth": quoted(password)} if password else {}
    return {**quick, **secret, **(config or {})}


def password_or_new(password: str | None) -> str:
    """``password``; a new one for None."""
    return secrets.token_urlsafe(32) if password is None else password


def at_once(
    work: Callable[[EmbeddedServer], None],
    members: Sequence[EmbeddedServer],
    on_error: Callable[[], None] = lambda: None,
) -> None:
    """Do the same with all members at once, and wait for each. The first error is raised, after
    ``on_error``, which should shorten the waiting."""
    with ThreadPoolExecutor(len(members), thread_name_prefix="redisutils-group") as executor:
        futures = [executor.submit(work, member) for member in members]
        with ExitStack() as waiting:  # the executor waits for the others, whatever ends this
            waiting.callback(on_error)
            for future in as_completed(futures):
                future.result()
            waiting.pop_all()
