"""Figures that others give rounded, against our exact ones."""

from __future__ import annotations

from decimal import Decimal

from redisutils.trading.money import ARITHMETIC

__all__ = ["agrees"]


def agrees(theirs: Decimal, ours: Decimal) -> bool:
    """Whether a rounded number may be ours: up, down or to the nearest, it is less than one unit of
    its last digit away."""
    exponent = theirs.as_tuple().exponent
    assert isinstance(exponent, int)  # only of NaN and infinities it is a letter
    unit = Decimal((0, (1,), min(exponent, 0)))
    return ARITHMETIC.subtract(theirs, ours).copy_abs() < unit
