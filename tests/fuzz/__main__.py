"""``python -m tests.fuzz``: fuzz the targets for a while, guided by coverage.

Needs atheris, which there is for Linux. What breaks a promise is printed, and the input that did it
is left in a file (``wire-timeout-*`` for one that takes long), to be run again:
``python -m tests.fuzz wire --again .cache/fuzz/wire-broken``.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

CORPUS = Path(".cache/fuzz")
"""What has led to something new in earlier runs, and need not be found again."""


def main() -> int:
    """Run the targets one after the other. Returns 0 if all of them hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("target", nargs="?", choices=("wire", "urls"), help="one of them only")
    parser.add_argument("--seconds", type=int, default=60, help="for all together (60)")
    parser.add_argument("--seed", type=int, default=1, help="of the fuzzer's chance (1)")
    parser.add_argument("--again", type=Path, help="only the input in this file")
    parser.add_argument("--in-here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.again is not None:
        _target(asked.target or "wire")(asked.again.read_bytes())
        return 0
    if asked.in_here:
        _fuzz(asked.target, asked.seconds, asked.seed)
    chosen = [(asked.target, 1.0)] if asked.target else [("wire", 0.8), ("urls", 0.2)]
    ends = [
        _apart(name, max(1, round(asked.seconds * share)), asked.seed) for name, share in chosen
    ]
    return int(any(ends))


def _apart(name: str, seconds: int, seed: int) -> int:
    """Fuzz one target in a process of its own: the fuzzer ends the one that it runs in."""
    options = (f"--seconds={seconds}", f"--seed={seed}", "--in-here")
    return subprocess.run(
        [sys.executable, "-m", "tests.fuzz", name, *options], check=False
    ).returncode


def _target(name: str) -> Callable[[bytes], None]:
    from . import urls, wire

    if name == "urls":
        return urls.one_input
    loop = asyncio.SelectorEventLoop()
    return lambda data: wire.one_input(loop, data)


def _fuzz(name: str, seconds: int, seed: int) -> None:
    """Fuzz one target in this process, which ends with that."""
    atheris: Any = import_module("atheris")  # there are no types of it
    with atheris.instrument_imports(include=["redisutils"]):  # so nothing of it comes earlier
        from .seeds import URLS, programs

        target = _target(name)

    def hold(data: bytes) -> None:
        try:
            target(data)
        except BaseException:
            (CORPUS / f"{name}-broken").write_bytes(data)
            raise

    corpus = CORPUS / name
    corpus.mkdir(parents=True, exist_ok=True)
    begin = programs(seed, 200) if name == "wire" else [url.encode() for url in URLS]
    for number, data in enumerate(begin):
        (corpus / f"seed-{number}").write_bytes(data)
    options = (
        f"-max_total_time={seconds}",
        f"-seed={seed}",
        "-max_len=400",
        "-timeout=10",
        "-print_final_stats=1",
        f"-artifact_prefix={CORPUS}/{name}-",
    )
    atheris.Setup([sys.argv[0], *options, str(corpus)], hold)
    print(f"{name}: {seconds} s from {time.strftime('%X')}", flush=True)  # noqa: T201  # a program
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
