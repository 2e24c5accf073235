"""``redisutils demo --mode … --kill``: each write is accounted for; what must not be is found."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import AsyncIterator
from time import perf_counter
from typing import Any

import pytest
from typer.testing import CliRunner

from redisutils import Redis, create_redis_pool
from redisutils.cli.app import app
from redisutils.cli.demo.failover.book import Book, Findings
from redisutils.errors import CommandTimeout, Outcome

one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])


pytestmark = pytest.mark.usefixtures("empty_surroundings")


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "redisutils", "demo", "--plain", "--tasks", "12", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("mode", ["cluster", "sentinel"])
def test_a_primary_dies_and_nothing_happens_that_must_not(mode: str) -> None:
    run = demo("--mode", mode, "--kill", "--seconds", "3")
    assert run.returncode == 0, run.stdout + run.stderr
    words = " ".join(run.stdout.split())
    assert "kill -9 of the primary" in words
    assert "is elected" in words
    assert "first write acknowledged there" in words
    for name in (
        "lost otherwise",
        "doubled",
        "refused, but there",
        "out of order",
        "wrong answers",
    ):
        assert f"{name} 0 must be 0" in words
    assert "✓" in words


def test_the_usual_day_on_a_cluster() -> None:
    run = demo("--mode", "cluster", "--seconds", "1")
    assert run.returncode == 0, run.stdout + run.stderr
    assert "the ledger balances, every value was right, no event was lost" in run.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--kill",), "needs --mode cluster or --mode sentinel"),
        (("--kill", "--mode", "standalone"), "needs --mode cluster or --mode sentinel"),
        (("--kill", "--mode", "cluster", "--trades", "5"), "does not go with --kill"),
        (("--mode", "cluster", "redis://localhost"), "--mode starts servers of its own"),
        (("--mode", "foo"), "'--mode': 'foo' is not one of"),
    ],
)
def test_wrong_usage(arguments: tuple[str, ...], words: str) -> None:
    done = CliRunner().invoke(app, ["demo", *arguments], env={"COLUMNS": "200"})
    assert done.exit_code == 2
    assert words in " ".join(done.output.replace("│", " ").split())


# -- the book --------------------------------------------------------------------------------------


@pytest.fixture
async def client(clean_server: Any) -> AsyncIterator[Redis]:
    given = {"host": clean_server.host, "port": clean_server.port}
    async with create_redis_pool(**given, password=clean_server.password) as pool:
        yield pool.client


async def written(client: Redis, count: int = 5) -> tuple[Book, Findings]:
    findings = Findings()
    book = Book(3, "trading:test", findings)
    await book.begin(client)
    for _ in range(count - 1):
        assert await book.write(client) is None
    return book, findings


@one_loop
async def test_what_was_acknowledged_is_there(client: Redis) -> None:
    book, findings = await written(client)
    await book.verify(client, None)
    assert (findings.acknowledged, findings.kept, findings.faults) == (5, 5, 0)
    await book.delete(client)
    assert await client.dbsize() == 0


@one_loop
async def test_what_must_not_be_is_found(client: Redis) -> None:
    book, findings = await written(client)
    await client.rpop(book.list_key)  # one is lost
    await client.rpush(book.list_key, 1)  # another is there twice
    await book.verify(client, None)
    assert (findings.lost, findings.doubled, findings.lost_by_servers) == (1, 1, 0)
    assert findings.faults == 2
    assert len(findings.examples) == 2


@one_loop
async def test_numbers_that_have_changed_places_are_found(client: Redis) -> None:
    book, findings = await written(client)
    await client.lmove(book.list_key, book.list_key, "LEFT", "RIGHT")
    await book.verify(client, None)
    assert (findings.out_of_order, findings.faults) == (1, 1)


@one_loop
async def test_what_died_with_a_primary_is_told_apart(client: Redis) -> None:
    book, findings = await written(client)
    died = perf_counter()
    assert await book.write(client) is None  # after the death: for that there is no excuse
    await client.rpop(book.list_key, 2)
    book.bereaved = True
    await book.verify(client, died)
    assert (findings.lost_by_servers, findings.lost) == (1, 1)


@one_loop
async def test_unknown_and_refused_writes(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    book, findings = await written(client, 1)
    rpush = client.rpush
    outcome, arrives = Outcome.UNKNOWN, True

    async def fails(key: str, number: int) -> None:
        if arrives:
            await rpush(key, number)
        raise CommandTimeout("told by the test", outcome=outcome)

    monkeypatch.setattr(client, "rpush", fails)
    assert isinstance(await book.write(client), CommandTimeout)
    arrives = False
    await book.write(client)
    outcome = Outcome.NOT_SENT
    await book.write(client)
    arrives = True  # it lies
    await book.write(client)
    await book.verify(client, None)
    assert (findings.unknown, findings.done) == (2, 1)
    assert (findings.refused, findings.undead, findings.faults) == (2, 1, 1)


@one_loop
async def test_a_wrong_answer_is_found(client: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    book, findings = await written(client)

    async def another(_: str) -> bytes:
        return b"0004 1"

    monkeypatch.setattr(client, "get", another)
    await book.write(client)
    assert findings.wrong == 1
    assert "expected b'0003 5', found b'0004 1'" in findings.examples[0]
