"""``REDIS_LOG``: what the package's loggers write to standard error."""

from __future__ import annotations

import logging
import os
from typing import Final

__all__ = ["LEVELS", "configure_logging"]

LEVELS: Final = ("debug", "info", "warning", "error")


def configure_logging(level: str | None = None) -> bool:
    """Send the ``redisutils`` loggers to standard error, from ``level`` upwards.

    Args:
        level: One of ``LEVELS``; by default the environment's ``REDIS_LOG``. Unset or
            empty leaves logging as it is.

    Returns:
        Whether logging was turned on.

    Raises:
        ValueError: ``level`` is none of ``LEVELS``.
    """
    if level is None:
        level = os.environ.get("REDIS_LOG", "")
    level = level.strip().lower()
    if not level:
        return False
    if level not in LEVELS:
        raise ValueError(f"REDIS_LOG={level!r}: must be one of {', '.join(LEVELS)}")
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)-7s %(name)s: %(message)s"))
    logger = logging.getLogger("redisutils")
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False  # or a root handler would print every line twice
    return True
