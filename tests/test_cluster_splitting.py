"""A command in parts answers as the whole one would."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

from redisutils.connection.packing import pack, unpack
from redisutils.errors import (
    CommandTimeout,
    ConnectFailed,
    ConnectionLost,
    CrossSlot,
    Outcome,
    PoolTimeout,
    RedisUtilsError,
    outcome_of,
    with_code,
    with_outcome,
)
from redisutils.testing import EmbeddedServer, find_servers
from redisutils.topology.cluster.keys import slot_of
from redisutils.topology.cluster.partly import failure
from redisutils.topology.cluster.splitting import Part, Split, route, split

# Few, so that they come twice and share slots.
keys = st.sampled_from([b"a", b"b", b"c", b"{a}1", b"{b}1", b"{a}2", b"\r\n*1\r\n", b"\xff{"])
names = st.sampled_from([b"MGET", b"mget", b"DEL", b"UNLINK", b"EXISTS", b"TOUCH", b"Mset"])


@st.composite
def calls(draw: st.DrawFn) -> list[bytes]:
    name, given_keys = draw(names), draw(st.lists(keys, min_size=1, max_size=12))
    if name == b"Mset":
        return [name, *(word for key in given_keys for word in (key, draw(st.binary(max_size=2))))]
    return [name, *given_keys]


@pytest.fixture(scope="module", params=find_servers())
def client(request: pytest.FixtureRequest) -> Iterator[redis.Redis]:
    """One server that is no cluster, and so executes the whole as well as the parts."""
    with (
        EmbeddedServer(request.param) as server,
        redis.Redis.from_url(server.url, protocol=2) as client,
    ):
        client.response_callbacks.clear()
        yield client


@given(calls())
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_parts_do_what_the_whole_does(client: redis.Redis, words: list[bytes]) -> None:
    cut = split(words)
    if cut is None:
        assert len({slot_of(key) for key in keys_given(words)}) == 1
        return
    whole = carried_out(client, [words])
    parts = carried_out(client, [command for part in cut.parts for command in unpack(part.payload)])
    assert (cut.merge(parts[0]), parts[1]) == (whole[0][0], whole[1])


def keys_given(words: Sequence[bytes]) -> Sequence[bytes]:
    return words[1::2] if words[0].upper() == b"MSET" else words[1:]


def carried_out(client: redis.Redis, commands: Sequence[Sequence[bytes]]) -> tuple[list[Any], Any]:
    """The replies, and what is then in the database, which begins with two keys."""
    with client.pipeline(transaction=False) as pipe:
        issue: Callable[..., Any] = pipe.execute_command
        issue("FLUSHALL")
        issue("MSET", "a", "1", "{b}1", "2")
        for words in commands:
            issue(*words)
        issue("MGET", "a", "b", "c", "{a}1", "{b}1", "{a}2", "\r\n*1\r\n", b"\xff{")
        _, _, *replies, left = pipe.execute()
    return replies, left


@given(calls())
def test_each_part_lives_in_one_slot_and_each_key_in_one_part(words: list[bytes]) -> None:
    cut = split(words)
    if cut is None:
        return
    seen = list(dict.fromkeys(map(slot_of, keys_given(words))))
    assert [part.slot for part in cut.parts] == seen  # in order of appearance
    assert sorted(at for part in cut.parts for at in part.positions) == [*range(len(cut.keys))]
    for part in cut.parts:
        ((name, *arguments),) = unpack(part.payload)
        assert name == words[0]
        assert list(keys_given([name, *arguments])) == [cut.keys[at] for at in part.positions]
        assert {slot_of(key) for key in keys_given([name, *arguments])} == {part.slot}


def test_values_stand_where_the_caller_asked_for_them() -> None:
    cut = split([b"MGET", b"a", b"b", b"{a}1", b"a"])
    assert cut is not None
    assert cut.parts == [
        Part(15495, pack(["MGET", "a", "{a}1", "a"]), [0, 2, 3]),
        Part(3300, pack(["MGET", "b"]), [1]),
    ]
    assert cut.merge([["A", "A1", "A"], [None]]) == ["A", None, "A1", "A"]


@given(calls())
def test_a_route_is_a_slot_or_a_split(words: list[bytes]) -> None:
    assert route(words) == (split(words) or slot_of(keys_given(words)[0]))


def test_a_route_of_what_cannot_be_split() -> None:
    assert route([b"PING"]) is route([b"MGET"]) is None
    assert route([b"MSETNX", b"{a}", b"1", b"{a}b", b"2"]) == slot_of(b"a")
    assert route([b"MSET", b"a", b"1", b"a"]) == slot_of(b"a")  # the server counts better
    for words in ([b"MSETNX", b"a", b"1", b"b", b"2"], [b"RENAME", b"a", b"b"]):
        with pytest.raises(CrossSlot):
            route(words)


@pytest.mark.parametrize("answer", ["OK", b"OK"])
def test_mset_answers_once(answer: str | bytes) -> None:
    cut = split([b"MSET", b"a", b"1", b"b", b"2", b"a", b"3"])
    assert cut is not None
    assert [part.payload for part in cut.parts] == [
        pack(["MSET", "a", 1, "a", 3]),
        pack(["MSET", "b", 2]),
    ]
    assert cut.merge([answer, answer]) == answer


@pytest.mark.parametrize(
    "words",
    [
        ["MGET", "a"], ["MGET", "{a}1", "{a}2"], ["DEL", "a", "a"], ["MGET"], ["MSET"],
        ["MSET", "a", 1, "b"], ["MSETNX", "a", 1, "b", 2], ["MSETEX", 2, "a", 1, "b", 2],
        ["RENAME", "a", "b"], ["SUNION", "a", "b"], ["PFCOUNT", "a", "b"], ["GET", "a"], ["PING"],
        ["BLPOP", "a", "b", 1], ["WATCH", "a", "b"],
    ],
)  # fmt: skip
def test_what_is_not_split(words: list[Any]) -> None:
    assert split(unpack(pack(words))[0]) is None


# When a part fails


def rejected(text: str = "NOPERM no") -> Exception:
    error = with_code(ResponseError(text), text.split(maxsplit=1)[0])
    return with_outcome(error, Outcome.REJECTED)


def three(name: bytes) -> Split:
    cut = split([name, b"a", b"b", b"c"])
    assert cut is not None
    return cut


def test_a_read_fails_with_the_first_error_as_it_is() -> None:
    error = rejected()
    for name in (b"MGET", b"EXISTS"):
        with pytest.raises(ResponseError) as caught:
            three(name).merge([1, error, ConnectionLost("gone")])
        assert caught.value is error


def test_a_write_tells_which_keys_it_has_written() -> None:
    with pytest.raises(ResponseError) as caught:
        three(b"del").merge([1, rejected(), ConnectionLost("gone")])
    text = str(caught.value)
    assert text.startswith("NOPERM no (DEL, split by slots")
    assert "of 3: executed by 'a'; not by 'b'; unknown of 'c')" in text
    assert outcome_of(caught.value) is Outcome.UNKNOWN
    assert getattr(caught.value, "code", "") == "NOPERM"


NOT_SENT = ConnectFailed("refused")
LOST = ConnectionLost("gone")
UNDECODED = with_outcome(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no"), Outcome.EXECUTED)
UNMARKED = RuntimeError("a bug")


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [
        ([NOT_SENT, NOT_SENT], Outcome.NOT_SENT),
        ([rejected(), rejected()], Outcome.REJECTED),
        ([NOT_SENT, rejected()], Outcome.REJECTED),
        ([rejected(), 1], Outcome.UNKNOWN),
        ([1, NOT_SENT], Outcome.UNKNOWN),
        ([NOT_SENT, LOST], Outcome.UNKNOWN),
        ([LOST, LOST], Outcome.UNKNOWN),
        ([1, LOST], Outcome.UNKNOWN),
        ([1, UNDECODED], Outcome.EXECUTED),
        ([NOT_SENT, UNDECODED], Outcome.UNKNOWN),
        ([NOT_SENT, UNMARKED], Outcome.UNKNOWN),
    ],
)
def test_nothing_happened_is_said_only_where_it_is_so(answers: list[Any], outcome: Outcome) -> None:
    error = failure("DEL", [(f"n{at}", value) for at, value in enumerate(answers)])
    first = next(value for value in answers if isinstance(value, Exception))
    assert type(error) is type(first)
    assert outcome_of(error) is outcome


class Odd(Exception):
    def __init__(self, one: str, *, other: str) -> None:
        super().__init__(one)


@pytest.mark.parametrize(
    "error",
    [
        rejected(),
        ConnectFailed("refused", fatal=True),
        CommandTimeout("too late", outcome=Outcome.UNKNOWN),
        PoolTimeout("full", "recycle"),
        redis.exceptions.MovedError("3999 127.0.0.1:6381"),
        UNDECODED,
        Odd("x", other="y"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_the_error_stays_what_it_was_and_tells_more(error: Exception) -> None:
    before = str(error)
    told = failure("DEL", [("n1", 1), ("n2", error)])
    notes = getattr(told, "__notes__", [])
    assert "DEL of 2: executed by n1" in str(told) + "".join(notes)
    assert str(told).startswith(before.split(" [outcome", maxsplit=1)[0])
    for name in ("code", "fatal", "phase"):
        assert getattr(told, name, None) == getattr(error, name, None)
    if isinstance(told, RedisUtilsError) and told.tells_outcome:
        assert str(told).endswith("[outcome: UNKNOWN]")
        assert "outcome" not in told.message
    if not isinstance(error, Odd):
        assert told is not error
        assert str(error) == before
        assert told.__cause__ is error


def test_a_message_does_not_name_hundreds() -> None:
    told = failure("DEL", [("n0", rejected()), *((f"n{at}", 1) for at in range(1, 500))])
    assert "n8 and 491 more" in str(told)
