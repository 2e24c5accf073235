"""The table of what may be repeated, row by row, and the arithmetic of the pauses between attempts.

What becomes of commands by it, on servers, is in ``test_outcomes`` and ``test_transient``.
"""

from __future__ import annotations

import asyncio
from typing import TypeAlias

import pytest

from redisutils.connection.packing import pack_many
from redisutils.connection.reply import Batch, new_batch
from redisutils.pool.judgement import blocks, refused_by_the_server, repeatable
from redisutils.retry import TRANSIENT, Backoff, RetryMode, RetryPolicy

BACKOFF = Backoff(base=0.5, cap=5.0)

Calls: TypeAlias = list[tuple[str, ...]]

GET, SET, INCR = ("GET", "k"), ("SET", "k", "v"), ("INCR", "k")
EVAL, BLPOP, ODD = ("EVAL", "return 1", "0"), ("BLPOP", "k", "0"), ("MODULE.DO", "k")
MULTI, EXEC = ("MULTI",), ("EXEC",)


@pytest.mark.parametrize(
    ("mode", "repeatable", "may"),
    [
        ("safe", True, True),
        ("safe", False, False),
        ("never", True, False),
        ("never", False, False),
        ("always", True, True),
        ("always", False, True),
    ],
)
def test_what_was_written_and_not_answered(mode: RetryMode, repeatable: bool, may: bool) -> None:
    assert RetryPolicy(mode, 3, BACKOFF).may_resend(lambda: repeatable) is may


@pytest.mark.parametrize(("mode", "may"), [("safe", True), ("never", False), ("always", True)])
@pytest.mark.parametrize(
    "code", ["LOADING", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "READONLY", "BUSY"]
)
def test_what_the_server_refused_for_the_moment(code: str, mode: RetryMode, may: bool) -> None:
    assert code in TRANSIENT
    assert RetryPolicy(mode, 3, BACKOFF).may_repeat_rejected(code) is may


@pytest.mark.parametrize("mode", ["safe", "never", "always"])
@pytest.mark.parametrize("code", ["ERR", "WRONGTYPE", "OOM", "NOPERM", "MOVED", "ASK", "BUSYKEY"])
def test_what_the_server_refused_for_good(code: str, mode: RetryMode) -> None:
    assert not RetryPolicy(mode, 3, BACKOFF).may_repeat_rejected(code)


def test_the_bound_doubles_up_to_its_cap() -> None:
    bounds = [BACKOFF.delay(attempt, lambda: 1.0) for attempt in range(1, 8)]
    assert bounds == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
    assert BACKOFF.delay(100_000, lambda: 1.0) == 5.0


def test_the_delay_is_any_part_of_its_bound() -> None:
    for part in (0.0, 0.25, 1.0):
        assert BACKOFF.delay(3, lambda: part) == 2.0 * part  # noqa: B023  # asked at once
    drawn = [BACKOFF.delay(3) for _ in range(1000)]
    assert 0.0 <= min(drawn) < 0.5
    assert 1.5 < max(drawn) <= 2.0


# -- what is written in one piece is judged as one --


def batch(calls: Calls) -> Batch:
    payload = pack_many(calls)
    return new_batch(asyncio.get_running_loop(), payload, len(calls), False, 1.0)


@pytest.mark.parametrize(
    ("calls", "may"),
    [
        ([GET], True),
        ([SET, GET], True),
        ([MULTI, SET, GET, EXEC], True),
        ([INCR], False),
        ([GET, INCR], False),
        ([INCR, GET], False),
        ([MULTI, GET, INCR, EXEC], False),
        ([ODD], False),
        ([EVAL], False),
        ([BLPOP], False),
    ],
)
async def test_all_must_be_repeatable(calls: Calls, may: bool) -> None:
    assert repeatable(batch(calls)) is may


@pytest.mark.parametrize(
    ("calls", "blocking"),
    [([GET, SET], False), ([GET, BLPOP], True), ([BLPOP, GET], True), ([BLPOP], True)],
)
async def test_one_that_blocks_is_enough(calls: Calls, blocking: bool) -> None:
    assert blocks(batch(calls)) is blocking


@pytest.mark.parametrize(
    ("calls", "its_own"),
    [
        ([GET, INCR], True),
        ([MULTI, INCR, EXEC], True),
        ([EVAL], False),
        ([INCR, EVAL], False),
        ([("EVALSHA", "0" * 40, "0"), INCR], False),
        ([("FCALL", "f", "0")], False),
        ([ODD], False),
    ],
)
async def test_one_that_runs_code_may_refuse_for_itself(calls: Calls, its_own: bool) -> None:
    assert refused_by_the_server(batch(calls)) is its_own
