"""Where an account is kept. All its keys have its name as their hash tag, so that one script may
change them in a cluster."""

from __future__ import annotations

from redisutils.trading.names import checked_name, checked_prefix

__all__ = ["Keys"]


class Keys:
    """The names of an account's keys.

    :raises InvalidValue: the account or the prefix would spoil a key.
    """

    __slots__ = ("account", "base", "events", "meta", "open", "prefix")

    def __init__(self, account: str, prefix: str = "") -> None:
        self.account = checked_name("account", account)
        self.prefix = checked_prefix(prefix)
        self.base = f"{prefix}ord:{{{account}}}:"
        self.events = self.base + "ev"
        """The outbox: a stream of all that happened, with dense ids."""
        self.meta = self.base + "m"
        """A hash: ``seq``, the last event's number; ``tip``, the name of its commit; and what was
        there once (:meth:`executions`)."""
        self.open = self.base + "open"
        """A sorted set of the open orders' ids, in the order they were opened."""

    def order(self, order_id: str) -> str:
        """A hash: ``n`` the version (the name of the commit that wrote it), ``r`` the record."""
        return f"{self.base}o:{order_id}"

    def history(self, order_id: str) -> str:
        """A list of what happened to an order: of each event its number, kind, message, and the
        order after it."""
        return f"{self.base}h:{order_id}"

    def links(self, order_id: str) -> str:
        """A list of the ClOrdIDs of an order's chain, but for the first."""
        return f"{self.base}c:{order_id}"

    def cl_ord_id(self, cl_ord_id: str) -> str:
        """A string: the id of the order that a later ClOrdID of a chain belongs to."""
        return f"{self.base}clid:{cl_ord_id}"

    def open_in(self, instrument: str) -> str:
        """A set of the ids of an instrument's open orders."""
        return f"{self.base}open:{instrument}"

    def executions(self, trade_date: str) -> str:
        """A hash of that day's executions: ``<venue> <ExecID>`` to what became of it. Since it
        expires, ``m`` tells for ever, as ``x:<trade date>``, that it was there."""
        return f"{self.base}x:{trade_date}"

    def position(self, instrument: str) -> str:
        """A hash: ``n`` the version (the name of the commit that wrote it), ``r`` the record."""
        return f"{self.base}pos:{instrument}"

    @property
    def positions(self) -> str:
        """A set of the instruments that have a position."""
        return self.base + "pos"

    @property
    def adjustments(self) -> str:
        """A hash of the adjustments' ids."""
        return self.base + "adj"
