"""A client's response callbacks, and who is told when they change."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from redis.client import EMPTY_RESPONSE, NEVER_DECODE, CaseInsensitiveDict

from redisutils.errors import Outcome, with_outcome

__all__ = ["ResponseCallbacks", "settled", "shape"]


# redis-py's dict has no types.
_put: Callable[[CaseInsensitiveDict, str, Any], None] = CaseInsensitiveDict.__setitem__
_drop: Callable[[CaseInsensitiveDict, str], None] = CaseInsensitiveDict.__delitem__
_find: Callable[[CaseInsensitiveDict, str], Any] = CaseInsensitiveDict.get
_take_over: Callable[[CaseInsensitiveDict, dict[Any, Any]], None] = CaseInsensitiveDict.update


class ResponseCallbacks(CaseInsensitiveDict):
    """redis-py's dict of callbacks by command name, in any case.

    Args:
        callbacks: to begin with, by their names in upper case, as a client has them.
        changed: called after each change, so that what was looked up is looked up again.
    """

    def __init__(self, callbacks: Mapping[Any, Any], changed: Callable[[], None]) -> None:
        super().__init__({})
        dict.update(self, callbacks)
        self._changed = changed

    def __setitem__(self, name: str, callback: Any) -> None:
        _put(self, name, callback)
        self._changed()

    def __delitem__(self, name: str) -> None:
        _drop(self, name)
        self._changed()

    def update(self, *args: Any, **kwargs: Any) -> None:
        _take_over(self, dict(*args, **kwargs))
        self._changed()

    def exchange(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        """Put ``new`` in the place of ``old``, but for what somebody has set since."""
        for name in {*old, *new}:
            if _find(self, name) is old.get(name):
                if name in new:
                    _put(self, name, new[name])
                else:
                    _drop(self, name)
        self._changed()

    def pop(self, name: str, *default: Any) -> Any:
        callback = super().pop(name.upper(), *default)
        self._changed()
        return callback

    def clear(self) -> None:
        super().clear()
        self._changed()


def shape(callback: Any, response: Any, options: dict[str, Any]) -> Any:
    """Call a response callback as redis-py does. An exception of its own says EXECUTED."""
    try:
        if not options:
            return callback(response)
        options.pop("keys", None)  # for client-side caching only
        options.pop(NEVER_DECODE, None)
        options.pop(EMPTY_RESPONSE, None)
        return callback(response, **options)
    except Exception as error:
        with_outcome(error, Outcome.EXECUTED)
        raise


async def settled(shaped: Awaitable[Any]) -> Any:
    """What an asynchronous response callback came to, with EXECUTED on an exception of its own."""
    try:
        return await shaped
    except Exception as error:
        with_outcome(error, Outcome.EXECUTED)
        raise
