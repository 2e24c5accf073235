"""One log record for each event that matters, and never a flood of them.

============== =======  =====================================================================
event          level    facts beside ``endpoint``
============== =======  =====================================================================
connected      INFO     ``seconds`` that it took
connect_failed WARNING  ``error``
lost           WARNING  ``owner`` (a lane's name, or ``subscription``), ``in_flight``,
                        ``error``; INFO when it was idle
discarded      INFO     ``error``: an idle connection was not fit for reuse
renewed        INFO     ``lane``: its connection had lived long enough
retried        INFO     ``reason``, ``commands`` that are repeated
budget_spent   WARNING  ``outcome``, ``error``: a command's time was over
circuit        ERROR    ``state`` it changed to, ``error``; WARNING when it closes again
============== =======  =====================================================================

They go to the logger ``redisutils.events``, with ``event``, ``endpoint`` and the facts as
attributes of the record, where formatters for structured logs find them. Of each event up to
``BURST`` in ``PERIOD`` seconds are told, and then how many there were besides (``suppressed``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic
from typing import Any, Final

__all__ = ["BURST", "PERIOD", "EventLog"]

BURST: Final = 5
"""Records of one event in a period."""

PERIOD: Final = 60.0
"""Seconds."""

logger = logging.getLogger("redisutils.events")


class _Kind:
    """What has been told of one event in this period."""

    __slots__ = ("began", "level", "suppressed", "told")

    def __init__(self, began: float) -> None:
        self.began = began
        self.told = 0
        self.suppressed = 0
        self.level = logging.INFO


class EventLog:
    """Of one endpoint.

    Args:
        endpoint: the server's name; empty for what is told by nobody, a connection being opened.
        clock: seconds, such as ``time.monotonic``.
    """

    __slots__ = ("_clock", "_kinds", "endpoint")

    def __init__(self, endpoint: str, clock: Callable[[], float] = monotonic) -> None:
        self.endpoint = endpoint
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def note(self, event: str, level: int, message: str, *args: Any, **facts: Any) -> None:
        """Log ``event``, unless there has been too much of it.

        Args:
            event: one of the table above.
            message, *args: its text, as for ``logging``. It shall name the endpoint.
            **facts: the record's attributes.
        """
        if not self.endpoint or not logger.isEnabledFor(level):
            return
        now = self._clock()
        kind = self._kinds.get(event)
        if kind is None:
            kind = self._kinds[event] = _Kind(now)
        elif now - kind.began >= PERIOD:
            self._renew(event, kind, now)
        if kind.told >= BURST:
            kind.suppressed += 1
            kind.level = max(kind.level, level)
            return
        kind.told += 1
        logger.log(level, message, *args, extra=self._extra(event, facts))

    def tick(self, now: float) -> None:
        """Tell what was suppressed, once its period is over: to be called now and then."""
        for event, kind in self._kinds.items():
            if kind.suppressed and now - kind.began >= PERIOD:
                self._renew(event, kind, now)

    def _renew(self, event: str, kind: _Kind, now: float) -> None:
        if kind.suppressed:
            logger.log(
                kind.level,
                "%s: %d more times %r in the last %.0f s",
                self.endpoint,
                kind.suppressed,
                event,
                now - kind.began,
                extra=self._extra(event, {"suppressed": kind.suppressed}),
            )
        kind.began = now
        kind.told = kind.suppressed = 0
        kind.level = logging.INFO

    def _extra(self, event: str, facts: dict[str, Any]) -> dict[str, Any]:
        return {"event": event, "endpoint": self.endpoint, **facts}
