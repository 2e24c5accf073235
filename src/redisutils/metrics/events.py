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
held           WARNING  ``error``: why nothing is written to the primary for the moment
moved          WARNING  ``old`` and ``new`` place of the primary
sentinel       WARNING  ``error``: what is wrong with what sentinels say
circuit        ERROR    ``state`` it changed to, ``error``; WARNING when it closes again
============== =======  =====================================================================

They go to the logger ``redisutils.events``, with ``event``, ``endpoint`` and the facts as
attributes of the record, where formatters for structured logs find them. Of each event up to
``BURST`` in ``PERIOD`` seconds are told, and then how many there were besides (``suppressed``).

Logging runs code of the application's: filters, handlers, a factory of records. Whatever that
raises is no failure of ours: the text is told without its facts, and where that fails as well it
is counted.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, Final

__all__ = ["BURST", "HARMLESS", "PERIOD", "EventLog"]

BURST: Final = 5
"""Records of one event in a period."""

PERIOD: Final = 60.0
"""Seconds."""

HARMLESS: Final = suppress(Exception)
"""For logging what is no event, where somebody has to go on."""

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

    __slots__ = ("_clock", "_kinds", "endpoint", "failed")

    def __init__(self, endpoint: str, clock: Callable[[], float] = monotonic) -> None:
        self.endpoint = endpoint
        self.failed = 0
        """Records that could not be logged as they should."""
        self._clock = clock
        self._kinds: dict[str, _Kind] = {}

    def note(self, event: str, level: int, message: str, *args: Any, **facts: Any) -> None:
        """Log ``event``, unless there has been too much of it. Raises nothing.

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
        self._log(event, level, message, *args, **facts)

    def tick(self, now: float) -> None:
        """Tell what was suppressed, once its period is over: to be called now and then."""
        for event, kind in list(self._kinds.items()):
            if kind.suppressed and now - kind.began >= PERIOD:
                self._renew(event, kind, now)

    def _renew(self, event: str, kind: _Kind, now: float) -> None:
        if kind.suppressed:
            self._log(
                event,
                kind.level,
                "%s: %d more times %r in the last %.0f s",
                self.endpoint,
                kind.suppressed,
                event,
                now - kind.began,
                suppressed=kind.suppressed,
            )
        kind.began = now
        kind.told = kind.suppressed = 0
        kind.level = logging.INFO

    def _log(self, event: str, level: int, message: str, *args: Any, **facts: Any) -> None:
        extra = {"event": event, "endpoint": self.endpoint, **facts}
        try:
            logger.log(level, message, *args, extra=extra)
        except Exception as error:  # noqa: BLE001  # it runs code of the application's
            self.failed += 1
            # Such as a factory of records that sets one of our attributes itself.
            text = f"{message} (logged without its facts: %s: %s)"
            try:
                logger.log(level, text, *args, type(error).__name__, error)
            except Exception:  # noqa: BLE001  # as above
                if self.failed == 1 and logging.raiseExceptions:  # as logging tells of handlers'
                    with HARMLESS:
                        traceback.print_exc(chain=False, file=sys.stderr)
