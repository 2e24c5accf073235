"""What the services that write to a ledger have in common: they are closed."""

from __future__ import annotations

from typing import Self, TypeVar

from redisutils.trading.errors import LedgerClosed
from redisutils.trading.ledger.ledger import Intent, Ledger

__all__ = ["LedgerService"]

T = TypeVar("T")


class LedgerService:
    """A service of an account.

    :param name: what it keeps, for the error.
    """

    def __init__(self, name: str, ledger: Ledger) -> None:
        self._name = name
        self._ledger = ledger
        self._closed = False

    async def _submit(self, intent: Intent[T]) -> T:
        self._check_open()
        return await self._ledger.submit(intent)

    def _check_open(self) -> None:
        if self._closed:
            raise LedgerClosed(f"the {self._name} of {self._ledger.keys.account} are closed")

    async def close(self) -> None:
        """Take nothing more, and wait until what was taken is written."""
        self._closed = True
        await self._ledger.drained()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
