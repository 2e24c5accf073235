"""What servers say when something is subscribed to, or not any more, for many of them together."""

from __future__ import annotations

from typing import Any

from redisutils.client.branch import Subscription

__all__ = ["KINDS", "Confirmations"]

KINDS = ("subscribe", "psubscribe", "ssubscribe")
"""What may be subscribed to, by the command: channels, patterns, shard channels."""


class Confirmations:
    """Counts what a reader was told of. Channels and patterns are counted together, and shard
    channels by themselves (https://valkey.io/commands/subscribe/).

    Args:
        decode: whether strings are decoded.
    """

    __slots__ = ("_active", "_decode")

    def __init__(self, decode: bool) -> None:
        self._decode = decode
        self._active: dict[str, set[bytes]] = {kind: set() for kind in KINDS}

    def forget(self, one: Subscription) -> None:
        """It does not count any more."""
        self._active[one.kind].discard(one.name)

    def begun(self, one: Subscription) -> list[Any]:
        """That it is subscribed to."""
        self._active[one.kind].add(one.name)
        return self._told(one.kind, one.kind, one.name)

    def ended(self, kind: str, name: bytes | None) -> list[Any]:
        """That it is not any more; without a name, that there was nothing of the kind."""
        return self._told(kind.replace("subscribe", "unsubscribe"), kind, name)

    def _told(self, what: str, kind: str, name: bytes | None) -> list[Any]:
        kinds = (kind,) if kind == "ssubscribe" else ("subscribe", "psubscribe")
        count = sum(len(self._active[each]) for each in kinds)
        if not self._decode:
            return [what.encode(), name, count]
        return [what, None if name is None else name.decode("utf-8", "surrogateescape"), count]
