"""Looking at servers and processes by ways that we did not build."""

from __future__ import annotations

import os
import select
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

needs_pidfd = pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="no pidfd here")


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


@contextmanager
def ending(*pids: int) -> Iterator[None]:
    """The block lets processes end that may be nobody's children; wait until they have."""
    descriptors = [os.pidfd_open(pid) for pid in pids]
    try:
        yield
        for pid, descriptor in zip(pids, descriptors, strict=True):
            assert select.select([descriptor], [], [], 10.0)[0], f"process {pid} still runs"
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


def parent_of(pid: int) -> int:
    """The supervisor of a server."""
    return int(_stat(pid)[1])


def state_of(pid: int) -> str:
    """What a process does at present, in one letter: ``"T"`` is one that was stopped."""
    return _stat(pid)[0]


def _stat(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
