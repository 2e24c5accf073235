"""The move of one slot from one primary of a cluster to another, step by step."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import redis

from ._asking import Deadline, Word, ask
from ._hearing import wait_until_heard
from .server import EmbeddedServer

__all__ = ["SlotMigration", "migrate_command"]

# How many keys one MIGRATE carries, and how long it may take, ms.
_BATCH = 1000
_MIGRATE_PATIENCE = 5000


class _Work(Protocol):
    def __call__(self, timeout: float, work: Callable[[Deadline], None], /) -> Awaitable[None]: ...


class SlotMigration:
    """A slot that is being moved: what ``EmbeddedCluster.migrating()`` gives.

    The source answers for the keys that it still has, and with ASK for all others; the target
    answers after ASKING, and otherwise with MOVED.
    """

    def __init__(
        self,
        slot: int,
        source: tuple[EmbeddedServer, str],
        target: tuple[EmbeddedServer, str],
        work: _Work,
        timeout: float,
    ) -> None:
        self.slot = slot
        """The slot's number."""
        self.source, self._source_id = source
        self.target, self._target_id = target
        self._work = work
        self._timeout = timeout

    def __repr__(self) -> str:
        way = f"from port {self.source.process.port} to {self.target.process.port}"
        return f"<SlotMigration of slot {self.slot} {way}>"

    async def move_keys(self, *keys: str | bytes) -> None:
        """Move these keys, as far as they are there."""
        await self._work(self._timeout, lambda _: self._migrate(keys))

    async def begin(self) -> None:
        """Declare the slot importing and migrating; on failure neither."""

        def work(deadline: Deadline) -> None:
            wait_until_heard(self.source, self.target, deadline)
            try:
                self._set(self.target, "IMPORTING", self._source_id)
                self._set(self.source, "MIGRATING", self._target_id)
            except redis.RedisError:
                self._set(self.target, "STABLE")
                raise

        await self._work(self._timeout, work)

    async def finish(self, primaries: Sequence[EmbeddedServer]) -> None:
        """Move the keys that are left and tell the new owner to both and to ``primaries``."""

        def some_left() -> str | None:
            keys = ask(self.source, "CLUSTER", "GETKEYSINSLOT", self.slot, _BATCH)
            if not keys:
                return None
            self._migrate(keys)
            return f"slot {self.slot} still has keys on port {self.source.port}"

        def work(deadline: Deadline) -> None:
            deadline.wait_until(some_left)
            # The target first: were it the other way round, nobody would own the slot meanwhile.
            for node in dict.fromkeys([self.target, self.source, *primaries]):
                self._set(node, "NODE", self._target_id)

        await self._work(self._timeout, work)

    def _migrate(self, keys: Sequence[str | bytes]) -> None:
        ask(self.source, *migrate_command(self.target, keys))

    def _set(self, node: EmbeddedServer, *state: str) -> None:
        ask(node, "CLUSTER", "SETSLOT", self.slot, *state)


def migrate_command(target: EmbeddedServer, keys: Sequence[str | bytes]) -> Sequence[Word]:
    """The words of a MIGRATE to ``target`` of keys of one slot."""
    secret = ("AUTH", target.password) if target.password else ()
    return (
        *("MIGRATE", target.host, target.port, "", 0, _MIGRATE_PATIENCE),
        *secret,
        "KEYS",
        *keys,
    )
