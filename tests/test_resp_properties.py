"""Whatever replies come, in whatever pieces, whoever has gone: each caller gets his own.

Hypothesis thinks of the replies, of who asks for them and of the pieces; ``tests/resp.py`` says
what each caller must see.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from redisutils.connection.owner import Owner
from redisutils.connection.protocol import Connection
from redisutils.connection.reply import Batch, Reply
from redisutils.errors import ConnectionLost, Outcome, ProtocolError, outcome_of

from .conftest import DebugEventLoop
from .peers import Wire, turns, until
from .resp import INCOMPLETE, Node, encode, is_text, parse, push, reply, seen, shown

steady = settings(
    deadline=None,
    derandomize=True,
    database=None,
    # What fails often fails by waiting, which shrinking would do hundreds of times.
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Runs one example after the other in one loop."""
    factory = DebugEventLoop if request.param == "asyncio" else uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner.run


class Told(Owner[Connection]):
    """What a connection tells its owner."""

    def __init__(self) -> None:
        self.pushes: list[Any] = []
        self.refused: list[tuple[Reply, Any, str]] = []

    def on_push(self, connection: Connection, message: Any) -> None:
        self.pushes.append(message)

    def on_rejected(self, connection: Connection, reply: Reply, value: Any, code: str) -> bool:
        self.refused.append((reply, value, code))
        return False


@dataclass
class Asked:
    """A caller, and what comes for him."""

    nodes: list[Node]
    batch: bool
    decode: bool
    gone: bool
    """Whether he does not wait for it."""
    pushes: list[tuple[int, Node]] = field(default_factory=list)
    """Push messages, each with how many of his replies come before it."""

    def stream(self) -> bytes:
        data = b""
        for at, node in enumerate([*self.nodes, None]):
            data += b"".join(encode(each) for place, each in self.pushes if place == at)
            data += b"" if node is None else encode(node)
        return data

    def check(self, answer: Any) -> None:
        """``answer``: what came for him, or the exception."""
        if self.batch:
            assert len(answer) == len(self.nodes)
            for node, one in zip(self.nodes, answer, strict=True):
                self._check_one(node, one)
        else:
            self._check_one(self.nodes[0], answer)

    def _check_one(self, node: Node, answer: Any) -> None:
        if self.decode and not is_text(node):
            assert isinstance(answer, UnicodeDecodeError)
            assert outcome_of(answer) is Outcome.EXECUTED
            return
        assert shown(answer) == shown(seen(node, self.decode))
        if node.kind == "-":
            assert outcome_of(answer) is Outcome.REJECTED


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    batch = draw(st.booleans())
    nodes = draw(st.lists(reply, min_size=1, max_size=4 if batch else 1))
    places = st.integers(0, len(nodes))
    return Asked(
        nodes,
        batch,
        draw(st.booleans()),
        draw(st.sampled_from([False, False, True])),
        sorted(draw(st.lists(st.tuples(places, push), max_size=2)), key=lambda each: each[0]),
    )


async def say_in_pieces(wire: Wire, data: bytes, cuts: list[int]) -> None:
    for start, end in pairwise([0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]):
        if wire.connection.closed:  # the last piece of a reply too many has nobody to read it
            return
        await wire.say(data[start:end])


async def converse(callers: list[Asked], cuts: list[int] | None, trailer: bytes = b"") -> None:
    """Let all ask at once, and some go; send what is theirs, cut at ``cuts``, or at every byte."""
    async with Wire() as wire:
        told = wire.connection.owner = Told()
        tasks: list[asyncio.Task[Any]] = []
        for caller in callers:
            if caller.batch:
                future = wire.ask_many(len(caller.nodes), decode=caller.decode)
            else:
                future = wire.ask(decode=caller.decode)
            tasks.append(asyncio.ensure_future(_wait_for(future)))
        await wire.heard(sum(len(caller.nodes) for caller in callers))
        for caller, task in zip(callers, tasks, strict=True):
            if caller.gone:
                task.cancel()
        await turns(2)
        stream = b"".join(caller.stream() for caller in callers) + trailer
        await say_in_pieces(wire, stream, list(range(len(stream))) if cuts is None else cuts)
        assert wire.connection.in_flight == 0
        assert not wire.connection._reader.has_data()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        for caller, answer in zip(callers, answers, strict=True):
            if caller.gone:
                assert isinstance(answer, asyncio.CancelledError)
            else:
                caller.check(answer)
        pushed = [node for caller in callers for _, node in caller.pushes]
        for message, node in zip(told.pushes, pushed, strict=True):
            # Whether its strings are decoded is up to the reply that is due.
            assert shown(message) == shown(seen(node, isinstance(message[0], str)))
        for refused, value, code in told.refused:
            if isinstance(refused, Batch):
                assert code in {str(_code(each)) for each in value}
            else:
                assert code == _code(value)
        if not trailer:
            assert not wire.connection.closed
            last = wire.ask()
            await wire.say(b"+last\r\n")
            assert await last == b"last"


async def _wait_for(future: asyncio.Future[Any]) -> Any:
    return await future


def _code(error: BaseException) -> str:
    return getattr(error, "status_code", None) or str(error).split(" ")[0]


def test_what_is_written_here_reads_what_is_made_here() -> None:
    @steady
    @given(reply, st.binary(max_size=3))
    def check(node: Node, trailer: bytes) -> None:
        data = encode(node)
        assert parse(data + trailer) == (node, len(data))
        for at in range(len(data)):
            assert parse(data[:at]) is INCOMPLETE

    check()


def test_replies_whole(run: Run) -> None:
    @settings(steady, max_examples=40)
    @given(st.lists(asked(), min_size=1, max_size=5))
    def check(callers: list[Asked]) -> None:
        run(converse(callers, []))

    check()


def test_replies_cut_at_every_byte(run: Run) -> None:
    @settings(steady, max_examples=25)
    @given(st.lists(asked(), min_size=1, max_size=3))
    def check(callers: list[Asked]) -> None:
        run(converse(callers, None))

    check()


def test_replies_cut_anywhere(run: Run) -> None:
    @settings(steady, max_examples=40)
    @given(
        st.lists(asked(), min_size=1, max_size=5),
        st.lists(st.integers(0, 10_000), min_size=1, max_size=6),
    )
    def check(callers: list[Asked], cuts: list[int]) -> None:
        run(converse(callers, cuts))

    check()


def test_a_reply_too_many(run: Run) -> None:
    """Whoever asked has his own by then, and the connection goes."""

    @settings(steady, max_examples=25)
    @given(st.lists(asked(), min_size=1, max_size=3), st.lists(st.integers(0, 10_000)), reply)
    def check(callers: list[Asked], cuts: list[int], extra: Node) -> None:
        run(converse(callers, cuts, encode(extra)))

    check()


def test_a_stream_that_breaks_off(run: Run) -> None:
    """Who comes before the break has his own, who comes after it one clear error."""

    async def check_one(callers: list[Asked], at: int, garbage: bool) -> None:
        async with Wire() as wire:
            stream = b"".join(caller.stream() for caller in callers)
            at %= len(stream)
            if garbage:
                at = _start_of_a_frame(stream, at)
            futures = [
                wire.ask_many(len(caller.nodes), decode=caller.decode)
                if caller.batch
                else wire.ask(decode=caller.decode)
                for caller in callers
            ]
            await wire.say(stream[:at])
            if not garbage:
                wire.hang_up()
            else:
                await wire.say(b"\x15\x03\x03\x00\x02\x02\x46")
            answers = await asyncio.gather(*futures, return_exceptions=True)
            await until(lambda: wire.connection.closed)
            end = 0
            for caller, answer in zip(callers, answers, strict=True):
                end += len(caller.stream())
                trailing = b"".join(
                    encode(each) for place, each in caller.pushes if place == len(caller.nodes)
                )
                if end - len(trailing) <= at:
                    caller.check(answer)
                    continue
                assert isinstance(answer, ConnectionLost)
                assert answer.outcome is Outcome.UNKNOWN
                assert isinstance(answer, ProtocolError) <= garbage

    @settings(steady, max_examples=40)
    @given(st.lists(asked(), min_size=1, max_size=4), st.integers(0, 10_000), st.booleans())
    def check(callers: list[Asked], at: int, garbage: bool) -> None:
        run(check_one(callers, at, garbage))

    check()


def _start_of_a_frame(stream: bytes, at: int) -> int:
    """The last one up to ``at``."""
    here = after = 0
    while after <= at:
        here = after
        one = parse(stream, here)
        assert one is not INCOMPLETE
        after = one[1]
    return here
