"""What stands in for the asynchronous fixtures when pytest-asyncio is missing."""

from __future__ import annotations

from typing import NoReturn

import pytest


@pytest.fixture
def redis_pool() -> None:
    """Needs pytest-asyncio, which is missing."""
    _missing("redis_pool")


@pytest.fixture
def fault_proxy() -> None:
    """Needs pytest-asyncio, which is missing."""
    _missing("fault_proxy")


def _missing(fixture: str) -> NoReturn:
    pytest.fail(
        f"the fixture {fixture} needs pytest-asyncio, which is not installed or is switched off: "
        'pip install "redisutils[testing]"',
        pytrace=False,
    )
