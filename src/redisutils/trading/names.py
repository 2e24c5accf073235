"""Names that become parts of keys: instruments, accounts, orders. And the keys' prefix.

What is written in braces in a key decides its slot in a cluster, so none of these may have one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar

from redisutils.trading.errors import InvalidValue
from redisutils.trading.texts import shown

__all__ = ["checked_name", "checked_prefix", "checked_series", "each_once"]

T = TypeVar("T")

# No blank, quote, brace, glob character, backslash or control character: keys are typed by people
# into redis-cli and ACL patterns.
_NAME = re.compile(r"[A-Za-z0-9.:_/=+#@$&^~!%|,-]{1,64}", re.ASCII)
_PREFIX = re.compile(r"[A-Za-z0-9.:_/-]{0,64}", re.ASCII)


def checked_name(name: str, value: object) -> str:
    """A symbol, an account or an id, as venues write them: ``BTC/USD``, ``ESZ6``, ``BRK.B``,
    ``^GSPC``, ``BINANCE:BTCUSDT``.

    :param name: what the argument is called, for the error.
    :raises InvalidValue: it is no string of 1 to 64 letters, digits or ``. : _ / = + # @ $ & ^ ~
        ! % | , -``.
    """
    if isinstance(value, str) and _NAME.fullmatch(value):
        return value
    raise InvalidValue(
        f"{name}={shown(value)} must be 1 to 64 characters of letters, digits and . : _ / = + # @ "
        "$ & ^ ~ ! % | , - (no blanks, no braces)"
    )


def each_once(name: str, values: Iterable[str]) -> list[str]:
    """Names that are asked for together, in their order.

    :param name: what the argument is called, for the error.
    :raises InvalidValue: it is one string, whose letters nobody means, or no series of any.
    """
    return list(dict.fromkeys(checked_series(name, values)))


def checked_series(name: str, values: Iterable[T]) -> Iterable[T]:
    """What is given together.

    :param name: what the argument is called, for the error.
    :raises InvalidValue: it is no series: one of what belongs in it, or one string.
    """
    given: object = values
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise InvalidValue(f"{name}={shown(given)} must be a sequence: [{shown(given)}]")
    return values


def checked_prefix(value: object) -> str:
    """What all keys of a service begin with: ``"paper:"``, or nothing.

    :raises InvalidValue: it is no string of up to 64 letters, digits or ``. : _ / -``.
    """
    if isinstance(value, str) and _PREFIX.fullmatch(value):
        return value
    raise InvalidValue(
        f"prefix={shown(value)} must be up to 64 characters of letters, digits and . : _ / - "
        "(no blanks, no braces)"
    )
