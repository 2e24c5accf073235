"""The fuzzer's targets, on some thousands of inputs that are always the same: see ``make fuzz``."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator

import pytest

from .fuzz import urls, wire
from .fuzz.seeds import URLS, programs


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.SelectorEventLoop()
    yield loop
    loop.close()


def test_programs(loop: asyncio.AbstractEventLoop) -> None:
    for program in programs(1, 1000):
        wire.one_input(loop, program)


def test_noise(loop: asyncio.AbstractEventLoop) -> None:
    chance = random.Random(2)
    for _ in range(300):
        wire.one_input(loop, chance.randbytes(chance.randrange(200)))


def test_urls() -> None:
    chance = random.Random(3)
    for _ in range(100):
        data = bytearray(chance.choice(URLS).encode())
        for _ in range(chance.randrange(4)):
            data[chance.randrange(len(data))] = chance.choice(b"\x00\xff %:/@?#[]a0")
        urls.one_input(bytes(data))
