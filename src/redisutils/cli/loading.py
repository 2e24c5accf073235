"""The configuration as the library reads it, with all that is wrong with it, and without an end."""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from typing import Final

from redisutils.config import ConfigArgs, RedisConfig, Sources, sources
from redisutils.errors import ConfigError

__all__ = ["DOTENV", "Loaded", "load"]

DOTENV: Final = ".env"
"""What ``RedisConfig`` reads besides the environment."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What was found here and now."""

    config: RedisConfig | None
    """None when something is wrong."""
    problems: tuple[str, ...]
    """Each thing that is wrong, in words; secrets are ``***``."""
    sources: Sources


def load(url: str | None = None) -> Loaded:
    """What ``RedisConfig()`` would be. Of unknown variables, its warning is left to the caller.

    Args:
        url: the server, in place of the environment's.
    """
    given: ConfigArgs = {} if url is None else {"url": url}
    config: RedisConfig | None = None
    problems: tuple[str, ...] = ()
    logger = logging.getLogger("redisutils.config")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            logger.addFilter(_no_warning)
            config = RedisConfig(**given)
    except ConfigError as error:
        head, *several = str(error).split("\n  ")
        problems = tuple(several) or (head,)
    finally:
        logger.removeFilter(_no_warning)
    try:
        found = sources(**given)
    except ConfigError:  # the file cannot be read: said already
        found = Sources({}, [])
    return Loaded(config, problems, found)


def _no_warning(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING
