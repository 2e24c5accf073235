"""A configuration's URL: it is taken, or refused with a ConfigError that shows no password."""

from __future__ import annotations

import re

from redisutils import RedisConfig
from redisutils.errors import ConfigError

__all__ = ["one_input"]

_PASSWORD = re.compile(r"[a-z]+://[^/?#@:]*:([A-Za-z0-9]+)@")


def one_input(data: bytes) -> None:
    """Make a configuration of the URL ``data``.

    Raises:
        AssertionError: a password has changed what is said.
    """
    url = data.decode(errors="surrogateescape")
    said = _said(url)
    password = _PASSWORD.match(url)
    if password is not None:
        start, end = password.span(1)
        assert said == _said(url[:start] + "x" * (end - start) + url[end:])


def _said(url: str) -> str:
    try:
        return repr(RedisConfig(_env_file=None, url=url))
    except ConfigError as error:
        return str(error)
