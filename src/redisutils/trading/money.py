"""Prices, quantities and amounts: decimal numbers, exact or refused.

A number has at most 18 digits before the point and 36 in all. So bounded, every sum of products of
three of them that a lifetime of trading can make, and what it takes to share one out, fits into
:data:`ARITHMETIC`, which raises rather than rounds.
"""

from __future__ import annotations

import re
from decimal import (
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    Inexact,
    InvalidOperation,
    Overflow,
)

from redisutils.trading.errors import InvalidValue
from redisutils.trading.texts import shown

__all__ = ["ARITHMETIC", "ZERO", "in_bounds", "number", "positive_number", "size_number"]

ZERO = Decimal(0)

DIGITS = 36
WHOLE_DIGITS = 18

# A cost is a quantity times a price times a multiplier: 54 digits before the point and up to 105
# behind it. A share of it is one of that times a quantity once more, of 53 digits: this leaves room
# for the sum of more of them than there are nanoseconds in a century.
ARITHMETIC = Context(
    prec=260, traps=[Inexact, InvalidOperation, DivisionByZero, Overflow], Emax=999, Emin=-999
)
"""The context of all sums and products. Only divisions for display are made in another one."""

# Its plus() costs 0.1 µs and passes what is in bounds as it is: 36 digits, the first of them below
# 10**18, the last not behind 35 places (Emin - prec + 1).
_BOUNDS = Context(
    prec=DIGITS,
    Emax=WHOLE_DIGITS - 1,
    Emin=0,
    traps=[Inexact, InvalidOperation, Overflow],
)

# What Decimal() takes beside it, like "1_000", " 1" or other scripts' digits, is no venue's number.
_PLAIN = re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,2})?", re.ASCII)


def number(name: str, value: object) -> Decimal:
    """A finite decimal number of any sign, as a price of a spread is, or an amount of money.

    :param name: what the argument is called, for the error.
    :param value: a ``Decimal``, an ``int`` or a string like ``"-0.25"``; it is never rounded.
    :raises InvalidValue: for anything else, above all a float; for NaN and infinities; for more
        than 36 digits or 18 before the point.
    """
    if type(value) is Decimal:
        exact = value
    elif type(value) is int or (isinstance(value, str) and _PLAIN.fullmatch(value)):
        exact = Decimal(value)
    elif isinstance(value, float):
        raise InvalidValue(
            f"{name}={shown(value)} is a float, which is rounded already: give Decimal or str, "
            f'Decimal("{shown(value)}") if that is what is meant'
        )
    else:
        raise InvalidValue(f"{name}={shown(value)} must be a Decimal, an int or a string of digits")
    if not exact.is_finite():
        raise InvalidValue(f"{name}={_short(exact)} must be a finite number")
    try:
        return _BOUNDS.plus(exact)
    except DecimalException:
        raise InvalidValue(
            f"{name}={_short(exact)} must have at most {WHOLE_DIGITS} digits before the point and "
            f"{DIGITS} in all"
        ) from None


def _short(value: Decimal) -> str:
    text = str(value)
    return text if len(text) <= 2 * DIGITS else f"{text[: 2 * DIGITS]}... ({len(text)} characters)"


def in_bounds(value: Decimal) -> bool:
    """Whether :func:`number` takes this one: quicker, and without a word."""
    try:
        return _BOUNDS.plus(value).is_finite()
    except DecimalException:
        return False


def size_number(name: str, value: object) -> Decimal:
    """As :func:`number`, and not negative: what is offered at a price, say."""
    exact = number(name, value)
    if exact < ZERO:
        raise InvalidValue(f"{name}={_short(exact)} must not be negative")
    return exact


def positive_number(name: str, value: object) -> Decimal:
    """As :func:`number`, and more than 0: a quantity that was traded, say."""
    exact = number(name, value)
    if exact <= ZERO:
        raise InvalidValue(f"{name}={_short(exact)} must be more than 0")
    return exact
