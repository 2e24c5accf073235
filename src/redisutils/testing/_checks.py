"""What the testing kit's arguments must be: each wrong one is a ConfigError that names it."""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any, NoReturn

from redisutils.errors import ConfigError

__all__ = [
    "Settable",
    "check_choice",
    "check_count",
    "check_flag",
    "check_kind",
    "check_port",
    "check_rate",
    "check_seconds",
    "check_time",
    "refuse",
]


class Settable:
    """The base of what has settings: a misspelt one is refused, and the text says which there
    are. Subclasses have ``__slots__``."""

    __slots__ = ()

    def __setattr__(self, name: str, value: object) -> None:
        try:
            super().__setattr__(name, value)
        except AttributeError as error:
            if name.startswith("_"):
                raise
            raise AttributeError(self._no_setting(name), name=name, obj=self) from error

    def _no_setting(self, name: str) -> str:
        """What to say of an attribute that cannot be set."""
        return f"{type(self).__name__} has no setting {name!r}"


def check_seconds(name: str, value: Any) -> None:
    """A duration or a moment: a number of seconds, 0 or more."""
    if not _is_number(value) or value < 0:
        refuse(name, value, "must be a number of seconds, 0 or more")


def check_time(name: str, value: Any) -> None:
    """A time that has to be given: a number of seconds greater than 0."""
    if not _is_number(value) or value <= 0:
        refuse(name, value, "must be a number of seconds greater than 0")


def check_rate(name: str, value: Any, *, optional: bool = True) -> None:
    """A rate in bytes per second, greater than 0, or None for no limit."""
    if value is None and optional:
        return
    if not _is_number(value) or value <= 0:
        expected = "must be a number of bytes per second greater than 0"
        refuse(name, value, expected + ", or None" * optional)


def check_count(
    name: str, value: Any, least: int, most: int | None = None, *, optional: bool = True
) -> None:
    """A whole number, ``least`` to ``most`` (if given), or None where that means something."""
    if value is None and optional:
        return
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole or value < least or (most is not None and value > most):
        limits = f"{least} or more" if most is None else f"{least} to {most}"
        refuse(name, value, f"must be a whole number, {limits}" + ", or None" * optional)


def check_port(name: str, value: Any) -> None:
    """The port of somebody who listens."""
    check_count(name, value, 1, 65535, optional=False)


def check_flag(name: str, value: Any) -> None:
    """True or False; no text, which would be true whatever it says."""
    if not isinstance(value, bool):
        refuse(name, value, "must be True or False")


def check_kind(name: str, value: Any, kinds: type | tuple[type, ...], expected: str) -> None:
    """Something of a kind, ``expected`` in words. The value is not shown: it may be a secret."""
    if not isinstance(value, kinds):
        raise ConfigError(f"{name} must be {expected}, not {type(value).__name__}")


def check_choice(name: str, value: Any, choices: Collection[str]) -> None:
    """One of a few words."""
    if value not in choices:
        refuse(name, value, f"must be one of {', '.join(choices)}")


def refuse(name: str, value: Any, expected: str) -> NoReturn:
    """Raise the ConfigError for an argument: its name, its value and what would be right."""
    raise ConfigError(f"{name}={value!r} {expected}")


def _is_number(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return math.isfinite(value)
