"""The configuration: does it load, and is there anything odd in it?"""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Final

from redisutils.cli.check.case import Case
from redisutils.cli.check.finding import Say, Stop
from redisutils.cli.check.units import listed
from redisutils.cli.loading import DOTENV
from redisutils.config import RedisConfig
from redisutils.connection.tls import TLSFiles
from redisutils.errors import ConfigError

__all__ = ["check_settings"]

LONG_TIMEOUT: Final = 60.0
"""Seconds of a command's budget beyond which nobody waits any more."""

_CHURN: Final = 10.0
"""Seconds of a connection's life below which connecting is most of the work."""


async def check_settings(case: Case, say: Say) -> None:
    """The step."""
    loaded = case.loaded
    for problem in loaded.problems:
        say.error(problem, "Correct it; `redisutils env` tells what each setting may be.")
    for name, meant in loaded.sources.unknown:
        remedy = f"Rename it to {meant}." if meant else "Remove it, or look for its right name in "
        say.warning(
            f"{name} is no setting of redisutils and is ignored",
            remedy if meant else f"{remedy}`redisutils env`.",
            variable=name,
        )
    if loaded.config is None:
        raise Stop
    config = loaded.config
    given = loaded.sources.given
    names = sorted({one.name.replace("url", "the command's URL") for one in given.values()})
    if "password" in given and given["password"].name == "url":
        say.note(
            "the password stands on the command line, where every user of this machine can read it",
            "Give it as REDIS_PASSWORD, or in a file that REDIS_PASSWORD_FILE names.",
        )
    say.ok(f"{listed(names)} set" if names else "nothing is set: all defaults", given=names)
    _files(case, say)
    _pool(config, say)
    _time(config, say)
    if config.tls_enabled:
        _tls_files(config, say)


def _tls_files(config: RedisConfig, say: Say) -> None:
    try:
        TLSFiles(config.tls_cert_path, config.tls_key_path, config.tls_ca_path)()
    except ConfigError as error:
        say.error(
            str(error), "Correct the path, or let the user that runs this program read the file."
        )
        raise Stop from None


def _files(case: Case, say: Say) -> None:
    """Files with a password in them."""
    config = case.config
    given = case.loaded.sources.given.get("password")
    if given is not None and given.where and _readable_by_all(Path(DOTENV)):
        say.warning(
            f"{DOTENV} has a password in it and every user of this machine may read it",
            f"`chmod 600 {DOTENV}`",
            path=str(Path(DOTENV).absolute()),
        )
    if config.password_file is None:
        return
    try:
        config.current_password()
    except ConfigError as error:
        say.error(
            str(error), "Correct the path, or let the user that runs this program read the file."
        )
        raise Stop from None
    if _readable_by_all(config.password_file):
        say.warning(
            f"every user of this machine may read the password file {config.password_file}",
            f"`chmod 600 {config.password_file}`",
            path=str(config.password_file),
        )


def _readable_by_all(path: Path) -> bool:
    try:
        return bool(path.stat().st_mode & stat.S_IROTH)
    except OSError:
        return False


def _pool(config: RedisConfig, say: Say) -> None:
    if config.pool_max_size == 1:
        say.warning(
            "REDIS_POOL_MAX_SIZE=1: the shared client keeps the only connection, and pool.get(), "
            "blocking commands and pub/sub would wait for one in vain",
            "Set REDIS_POOL_MAX_SIZE to the lanes that you use, plus the checkouts, blocking "
            "commands and subscriptions at the same time; the default is 10.",
        )
    elif config.pool_min_idle >= config.pool_max_size - 1 and config.pool_min_idle:
        say.note(
            f"REDIS_POOL_MIN_IDLE={config.pool_min_idle} cannot be reached with "
            f"REDIS_POOL_MAX_SIZE={config.pool_max_size}: lanes need connections too",
            "Raise REDIS_POOL_MAX_SIZE, or lower REDIS_POOL_MIN_IDLE.",
        )
    for name in ("pool_max_idle_seconds", "pool_max_lifetime_seconds"):
        seconds = getattr(config, name)
        if seconds is not None and seconds < _CHURN:
            say.warning(
                f"REDIS_{name.upper()}={seconds:g}: connections are closed and opened all the time",
                f"Set it to {_CHURN:g} s or more, or to off.",
            )


def _time(config: RedisConfig, say: Say) -> None:
    if config.command_timeout > LONG_TIMEOUT:
        say.warning(
            f"REDIS_COMMAND_TIMEOUT={config.command_timeout:g}: for so many seconds a caller may "
            "wait before it hears of a failure",
            "Set it to what a caller can really wait, such as 5.",
            command_timeout=config.command_timeout,
        )
    if config.retry == "always":
        say.warning(
            "REDIS_RETRY=always: a write whose reply was lost is sent again, and may be applied "
            "twice (an order, an INCR)",
            "Set REDIS_RETRY=safe, and look before you repeat what ended as UNKNOWN.",
        )
    elif config.retry == "never" or config.max_retries == 0:
        say.note(
            "nothing is repeated (REDIS_RETRY=never or REDIS_MAX_RETRIES=0): each blip of the "
            "network is an error for its callers",
            "REDIS_RETRY=safe repeats only what cannot take effect twice.",
        )
    if config.health_check_interval == 0:
        say.note(
            "REDIS_HEALTH_CHECK_INTERVAL=0: that an idle connection died is noticed when it is "
            "needed",
            "Set it to 30.",
        )
