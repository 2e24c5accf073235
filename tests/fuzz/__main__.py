"""``python -m tests.fuzz``: fuzz the targets for a while, guided by coverage.

Needs atheris, which there is for Linux. What breaks a promise is printed, and the input that did it
is left in a file (``wire-timeout-*`` for one that takes long), to be run again:
``python -m tests.fuzz wire --again .cache/fuzz/wire-broken``.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

CORPUS = Path(".cache/fuzz")
"""What has led to something new in earlier runs, and need not be found again."""


_INPUTS = re.compile(r"stat::number_of_executed_units:\s*(\d+)")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the targets one after the other. Returns 0 if all of them hold."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    if asked.again is not None:
        try:
            data = asked.again.read_bytes()
        except OSError as error:
            parser.error(f"--again {asked.again}: {error.strerror}")
        name = asked.target or ("urls" if asked.again.name.startswith("urls-") else "wire")
        with closing(asyncio.SelectorEventLoop()) as loop:
            _target(name, loop)(data)
        _say(f"{name}: nothing found in this input")
        return 0
    if find_spec("atheris") is None:
        parser.error("the fuzzer is not installed: pip install atheris (there is one for Linux)")
    if asked.in_here:
        _fuzz(asked.target, asked.seconds, asked.seed)
    chosen = [(asked.target, 1.0)] if asked.target else [("wire", 0.8), ("urls", 0.2)]
    verdicts = [
        _apart(name, max(1, round(asked.seconds * share)), asked.seed) for name, share in chosen
    ]
    for _, words in verdicts:
        _say(words)
    return int(not all(held for held, _ in verdicts))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument(
        "target",
        nargs="?",
        choices=("wire", "urls"),
        help="wire: what reads the network; urls: what reads URLs; "
        "default: both, and wire for four fifths of the time",
    )
    default = "default: %(default)s"
    parser.add_argument("--seconds", type=_seconds, default=60, help=f"for all together, {default}")
    parser.add_argument("--seed", type=int, default=1, help=f"of the fuzzer's chance, {default}")
    parser.add_argument("--again", type=Path, metavar="FILE", help="only the input in this file")
    parser.add_argument("--in-here", action="store_true", help=argparse.SUPPRESS)
    return parser


def _seconds(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, 1 or more")
    return int(text)


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _apart(name: str, seconds: int, seed: int) -> tuple[bool, str]:
    """Fuzz one target in a process of its own: the fuzzer ends the one that it runs in.

    Returns whether it held, and that in words.
    """
    options = (f"--seconds={seconds}", f"--seed={seed}", "--in-here")
    began = time.time()
    command = [sys.executable, "-m", "tests.fuzz", name, *options]
    inputs = None
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, errors="replace") as process:
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            found = _INPUTS.match(line)
            inputs = int(found[1]) if found else inputs
    left = [file for file in CORPUS.glob(f"{name}-*") if file.stat().st_mtime >= began]
    return verdict(name, process.returncode, inputs, left)


def verdict(name: str, code: int, inputs: int | None, left: Sequence[Path]) -> tuple[bool, str]:
    """Whether a target held, and that in words.

    Args:
        name: of the target.
        code: with which its process ended.
        inputs: how many it was given, as far as the fuzzer said so.
        left: the files of inputs that broke a promise.
    """
    if code == 0 and inputs:
        return True, f"{name}: nothing found in {inputs:,} inputs"
    if left:
        again = "".join(f"\n    python -m tests.fuzz {name} --again {file}" for file in left)
        return False, f"{name}: a promise is broken; once more:{again}"
    return False, f"{name}: not fuzzed: the fuzzer ended with code {code}"


def _target(name: str, loop: asyncio.AbstractEventLoop) -> Callable[[bytes], None]:
    from . import urls, wire

    if name == "urls":
        return urls.one_input
    return lambda data: wire.one_input(loop, data)


def _fuzz(name: str, seconds: int, seed: int) -> None:
    """Fuzz one target in this process, which ends with that."""
    atheris: Any = import_module("atheris")  # there are no types of it
    with atheris.instrument_imports(include=["redisutils"]):  # so nothing of it comes earlier
        from .seeds import URLS, programs

        target = _target(name, asyncio.SelectorEventLoop())

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
    _say(f"{name}: {seconds} s from {time.strftime('%X')}")
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
