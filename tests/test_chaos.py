"""The chaos itself, for one round: it runs, finds nothing, and would find what there is."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from redis.exceptions import RedisError

from redisutils import CommandTimeout, Outcome
from redisutils.testing import find_servers

from .chaos.__main__ import main
from .chaos.run import play
from .cluster_load import Worker

one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])


@one_loop
async def test_one_round_finds_nothing() -> None:
    said: list[str] = []
    record = await play("resharding", 0.1, 7, next(iter(find_servers())), said.append)
    assert record.complaints == []
    assert record.well
    assert record.turns > 100
    assert "slots, there and back" in said[0]


@pytest.mark.parametrize("minutes", ["-1", "0", "nan", "inf", "ten"])
def test_only_a_time_to_come_is_run(minutes: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        main(["--minutes", minutes])
    assert exited.value.code == 2
    assert f"argument --minutes: {minutes} must be" in capsys.readouterr().err


class Wrong:
    """A client that answers what it is told to, instead of asking a server."""

    def __init__(self, **answers: Any) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Any:
        async def call(*_: object) -> Any:
            await asyncio.sleep(0)
            answer = self._answers[name].pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


def timeout(outcome: Outcome) -> CommandTimeout:
    return CommandTimeout("too late", outcome=outcome)


@one_loop
@pytest.mark.parametrize(
    ("counted", "value", "wrong"),
    [
        ([1, 2, 3], 3, ""),
        ([1, timeout(Outcome.UNKNOWN), 3], 3, ""),
        ([1, timeout(Outcome.UNKNOWN), 2], 3, ""),  # of unknown fate, it may come late
        ([1, timeout(Outcome.NOT_SENT), 3], 3, "done less often"),
        ([1, 3, 4], 4, "done less often"),
        ([1, 2, 2], 3, "answered"),
        ([1, 2, 3], 4, "the counter"),
        ([1, 2, 3], 2, "the counter"),
    ],
)
async def test_a_worker_sees_what_was_counted_wrongly(
    counted: list[Any], value: int, wrong: str
) -> None:
    complaints: list[str] = []
    client = Wrong(incr=list(counted), get=[value], lrange=[[]])
    worker = Worker(client, "w", 7, complaints.append)
    for _ in counted:
        try:
            await worker.count()
        except RedisError:
            continue
    await worker.audit()
    assert bool(complaints) == bool(wrong)
    assert wrong in "; ".join(complaints)


@one_loop
@pytest.mark.parametrize(
    ("pushed", "there", "wrong"),
    [
        ([1, 2], [1, 2], ""),
        ([1, timeout(Outcome.UNKNOWN), 3], [1, 3], ""),
        ([1, timeout(Outcome.UNKNOWN), 3], [1, 3, 2], ""),
        ([1, timeout(Outcome.NOT_SENT), 3], [1, 2, 3], "was not done"),
        ([1, 2, 3], [1, 3], "has lost [2]"),
        ([1, 2, 3], [1, 3, 2], "out of order"),
        ([1, 2], [1, 2, 2], "twice"),
    ],
)
async def test_a_worker_sees_what_was_pushed_wrongly(
    pushed: list[Any], there: list[int], wrong: str
) -> None:
    complaints: list[str] = []
    client = Wrong(rpush=list(pushed), get=[None], lrange=[there])
    worker = Worker(client, "w", 7, complaints.append)
    for _ in pushed:
        try:
            await worker.push()
        except RedisError:
            continue
    await worker.audit()
    assert bool(complaints) == bool(wrong)
    assert wrong in "; ".join(complaints)
