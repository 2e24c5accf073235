"""The fuzzer's targets, on some thousands of inputs that are always the same: see ``make fuzz``."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from .fuzz import urls, wire
from .fuzz.__main__ import main, verdict
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


# --- the program around them ---


def test_its_verdict_is_in_words() -> None:
    assert verdict("wire", 0, 10271, []) == (True, "wire: nothing found in 10,271 inputs")
    held, words = verdict("wire", 77, 5, [Path("wire-broken")])
    assert not held
    assert words.endswith("once more:\n    python -m tests.fuzz wire --again wire-broken")
    for code, inputs in ((1, None), (0, None), (0, 0)):
        assert verdict("urls", code, inputs, []) == (
            False,
            f"urls: not fuzzed: the fuzzer ended with code {code}",
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seconds", "0"], "argument --seconds: 0 must be a whole number, 1 or more"),
        (["--seconds", "-5"], "argument --seconds: -5 must be"),
        (["--seconds", "1.5"], "argument --seconds: 1.5 must be"),
        (["--again", "/nowhere/input"], "--again /nowhere/input: No such file or directory"),
    ],
)
def test_what_cannot_be_fuzzed_is_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as exited:
        main(arguments)
    assert exited.value.code == 2
    assert f"error: {message}" in capsys.readouterr().err


def test_one_input_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for target, data in (("wire", next(iter(programs(1, 1)))), ("urls", URLS[0].encode())):
        file = tmp_path / f"{target}-broken"
        file.write_bytes(data)
        assert main(["--again", str(file)]) == 0
        assert capsys.readouterr().out == f"{target}: nothing found in this input\n"
