"""Looking at servers and processes by ways that we did not build."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def client_of(url: str, **options: Any) -> redis.Redis:
    """redis-py's client without its retries, which take seconds."""
    once = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(url, decode_responses=True, retry=once, **options)


def gone(place: str | Path) -> bool:
    return not Path(place).exists()
