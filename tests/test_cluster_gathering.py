"""Several nodes' answers to a command without keys make one that is true of the cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from redis.exceptions import ResponseError

from redisutils.commands import lookup
from redisutils.errors import (
    ConnectFailed,
    ConnectionLost,
    Outcome,
    outcome_of,
    with_code,
    with_outcome,
)
from redisutils.testing import EmbeddedCluster, find_servers
from redisutils.topology.cluster.gathering import Where, gather, where

from .servers import client_of


def words_of(call: str) -> list[bytes]:
    return call.encode().split()


def gathered(call: str, *answers: Any, replicas: int = 0) -> Any:
    """Of nodes n0, n1, …, of which the last are replicas."""
    words = words_of(call)
    named = [(f"n{at}", answer) for at, answer in enumerate(answers)]
    return gather(lookup(words), words, named, [name for name, _ in named[len(named) - replicas :]])


def refused(text: str = "NOPERM no") -> Exception:
    error = with_code(ResponseError(text), text.split(maxsplit=1)[0])
    return with_outcome(error, Outcome.REJECTED)


# Which nodes


@pytest.mark.parametrize(
    ("place", "names"),
    [
        (
            Where.PRIMARIES,
            """
            PING, FLUSHALL, FLUSHDB, DBSIZE, KEYS, RANDOMKEY, SCRIPT EXISTS, FUNCTION LOAD,
            FUNCTION DELETE, FUNCTION FLUSH, FUNCTION RESTORE, MEMORY PURGE, WAIT, WAITAOF, SAVE,
            BGSAVE, BGREWRITEAOF, LASTSAVE
            """,
        ),
        (
            Where.NODES,
            """
            SCRIPT LOAD, SCRIPT FLUSH, SCRIPT KILL, FUNCTION KILL, CONFIG SET, CONFIG REWRITE,
            CONFIG RESETSTAT, ACL SETUSER, ACL DELUSER, ACL LOAD, ACL SAVE, SLOWLOG GET,
            SLOWLOG LEN, SLOWLOG RESET, COMMANDLOG GET, LATENCY RESET, PUBSUB CHANNELS,
            PUBSUB NUMSUB, PUBSUB NUMPAT, PUBSUB SHARDCHANNELS, PUBSUB SHARDNUMSUB, CLIENT SETNAME
            """,
        ),
        (
            Where.ANY,
            """
            INFO, TIME, ECHO, ROLE, PUBLISH, CONFIG GET, CLIENT LIST, CLIENT KILL, CLIENT ID,
            CLIENT PAUSE, CLIENT UNPAUSE, ACL LIST, ACL WHOAMI, ACL LOG, CLUSTER NODES,
            CLUSTER SHARDS, CLUSTER INFO, COMMAND, COMMAND COUNT, COMMAND DOCS, MODULE LIST,
            MODULE LOAD, MEMORY STATS, MEMORY DOCTOR, MEMORY MALLOC-STATS, LATENCY LATEST,
            LATENCY HISTORY, LATENCY DOCTOR, FUNCTION LIST, FUNCTION DUMP, FUNCTION STATS,
            FT.SEARCH, FT.INFO, TS.MGET, SCAN, LOLWUT, SHUTDOWN, FAILOVER, EVAL, FCALL, DEBUG,
            nobody.knows, PUBSUB, SLOWLOG HELP
            """,
        ),
    ],
)
def test_where_commands_go(place: Where, names: str) -> None:
    for name in map(str.strip, names.split(",")):
        assert where(lookup((name,))) is place, name


# What their answers make


@pytest.mark.parametrize(
    ("call", "answers", "expected"),
    [
        ("PING", ["PONG", "PONG"], "PONG"),
        ("FLUSHALL", [b"OK", b"OK"], b"OK"),
        ("DBSIZE", [3, 0, 4], 7),
        ("KEYS *", [["a"], [], ["b", "c"]], ["a", "b", "c"]),
        ("LASTSAVE", [30, 10, 20], 10),
        ("SCRIPT EXISTS x y", [[1, 1], [1, 0]], [1, 0]),
        ("SCRIPT LOAD x", ["sha", "sha"], "sha"),
        ("FUNCTION LOAD x", ["lib", "lib"], "lib"),
        ("WAIT 1 0", [2, 1, 3], 1),
        ("WAITAOF 1 1 0", [[1, 2], [0, 3]], [0, 2]),
        ("LATENCY RESET", [1, 2], 3),
        ("SLOWLOG LEN", [1, 2, 0], 3),
        ("SLOWLOG GET", [[[1, 50], [0, 20]], [[7, 30]], []], [[1, 50], [7, 30], [0, 20]]),
        ("PUBSUB CHANNELS", [["a", "b"], ["b"], ["c"]], ["a", "b", "c"]),
        ("PUBSUB NUMSUB a b", [["a", 1, "b", 0], ["a", 2, "b", 5]], ["a", 3, "b", 5]),
        ("PUBSUB NUMSUB a b", [{"a": 1, "b": 0}, {"a": 2, "b": 5}], {"a": 3, "b": 5}),
        ("PUBSUB NUMSUB", [[], []], []),
        ("PUBSUB SHARDNUMSUB a", [[b"a", 1], [b"a", 2]], [b"a", 3]),
        ("PUBSUB NUMPAT", [1, 2], 3),
        ("RANDOMKEY", [None, "a", None], "a"),
        ("RANDOMKEY", [None, None], None),
        ("INFO", ["text"], "text"),
        ("KEYS *", [["a"]], ["a"]),
    ],
)
def test_answers_become_one(call: str, answers: Sequence[Any], expected: Any) -> None:
    assert gathered(call, *answers) == expected


def test_a_random_key_comes_from_every_node_that_has_one() -> None:
    assert {gathered("RANDOMKEY", "a", None, "b") for _ in range(200)} == {"a", "b"}


# What fails


def test_all_have_to_succeed() -> None:
    with pytest.raises(ResponseError) as caught:
        gathered("FLUSHALL", "OK", refused(), ConnectionLost("gone"), "OK")
    text = str(caught.value)
    assert text == "NOPERM no (FLUSHALL of 4: executed by n0, n3; not by n1; unknown of n2)"
    assert outcome_of(caught.value) is Outcome.UNKNOWN


@pytest.mark.parametrize(
    ("call", "done", "outcome"),
    [
        ("FLUSHALL", "OK", Outcome.UNKNOWN),
        ("CONFIG SET maxmemory 0", "OK", Outcome.UNKNOWN),
        ("SCRIPT FLUSH", "OK", Outcome.UNKNOWN),
        ("ACL SETUSER alice", "OK", Outcome.UNKNOWN),
        ("DBSIZE", 1, Outcome.REJECTED),
        ("KEYS *", [], Outcome.REJECTED),
        ("PUBSUB NUMSUB a", ["a", 1], Outcome.REJECTED),
        ("PING", "PONG", Outcome.REJECTED),
    ],
)
def test_a_refusal_by_one_of_two(call: str, done: Any, outcome: Outcome) -> None:
    """What one did is not undone by it; there is nothing to undo of what only asks."""
    with pytest.raises(ResponseError) as caught:
        gathered(call, done, refused())
    assert outcome_of(caught.value) is outcome
    assert ("executed by n0" in str(caught.value)) is (outcome is Outcome.UNKNOWN)


def test_one_success_is_enough_to_stop_a_script() -> None:
    idle = refused("NOTBUSY No scripts in execution right now.")
    for call in ("SCRIPT KILL", "FUNCTION KILL"):
        assert gathered(call, idle, "OK", ConnectionLost("gone")) == "OK"
        with pytest.raises(ResponseError, match="UNKILLABLE"):
            gathered(call, idle, refused("UNKILLABLE Sorry"), idle)
        with pytest.raises(ConnectionLost):
            gathered(call, idle, ConnectionLost("gone"))
        with pytest.raises(ResponseError, match="NOTBUSY") as caught:
            gathered(call, idle, idle)
        assert outcome_of(caught.value) is Outcome.REJECTED


def test_a_random_key_of_those_that_answer() -> None:
    assert gathered("RANDOMKEY", ConnectionLost("gone"), "a") == "a"
    with pytest.raises(ConnectionLost):  # there might be one
        gathered("RANDOMKEY", ConnectionLost("gone"), None)


def test_a_script_is_loaded_without_a_replica_that_is_away() -> None:
    away = ConnectFailed("refused")
    assert gathered("SCRIPT LOAD x", "sha", away, replicas=1) == "sha"
    with pytest.raises(ConnectFailed):
        gathered("SCRIPT LOAD x", away, "sha", replicas=1)
    with pytest.raises(ResponseError):
        gathered("SCRIPT LOAD x", "sha", refused(), replicas=1)
    with pytest.raises(ConnectFailed):
        gathered("SCRIPT LOAD x", away, away, replicas=2)
    with pytest.raises(ConnectFailed):  # an old password would still be let in
        gathered("ACL SETUSER alice", "OK", away, replicas=1)


def test_the_only_nodes_error_is_told_as_it_is() -> None:
    error = refused()
    with pytest.raises(ResponseError) as caught:
        gathered("FLUSHALL", error)
    assert caught.value is error


# Real clusters


@pytest.fixture(scope="module", params=find_servers())
def cluster(request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(3, 1, request.param) as cluster:
        yield cluster


Asked = Callable[..., Any]


@pytest.fixture(params=[2, 3], ids=["RESP2", "RESP3"])
def asked(request: pytest.FixtureRequest, cluster: EmbeddedCluster) -> Iterator[Asked]:
    """Asks the nodes that ``where`` says, and gathers what they answer."""
    with ExitStack() as stack:
        sends: dict[str, Asked] = {}
        for node in cluster.nodes:
            client = stack.enter_context(client_of(node.url, protocol=request.param))
            client.response_callbacks.clear()
            sends[f"127.0.0.1:{node.port}"] = client.execute_command
        primaries = [f"127.0.0.1:{node.port}" for node in cluster.primaries]

        def ask(*call: str) -> Any:
            command = lookup(call)
            place = where(command)
            assert place is not Where.ANY, call
            answers: list[tuple[str, Any]] = []
            for name in sends if place is Where.NODES else primaries:
                try:
                    answers.append((name, sends[name](*call)))
                except ResponseError as error:
                    with_code(error, str(error).split(maxsplit=1)[0])
                    answers.append((name, with_outcome(error, Outcome.REJECTED)))
            return gather(command, [word.encode() for word in call], answers)

        ask("FLUSHALL")
        ask("SCRIPT", "FLUSH")
        ask("FUNCTION", "FLUSH")
        yield ask


def test_a_real_clusters_keys_are_counted_and_listed_together(
    cluster: EmbeddedCluster, asked: Asked
) -> None:
    assert (asked("DBSIZE"), asked("KEYS", "*"), asked("RANDOMKEY")) == (0, [], None)
    keys = [f"k{number}" for number in range(50)]
    for key in keys:
        with client_of(cluster.node_for(key).url) as client:
            client.set(key, "v")
    assert asked("DBSIZE") == 50
    assert sorted(asked("KEYS", "*")) == sorted(keys)
    assert asked("RANDOMKEY") in keys
    assert asked("FLUSHALL") == "OK"
    assert asked("DBSIZE") == 0


def test_a_real_clusters_scripts_are_everywhere(asked: Asked) -> None:
    one = asked("SCRIPT", "LOAD", "return 1")
    assert asked("SCRIPT", "EXISTS", one, "0" * 40) == [1, 0]
    with pytest.raises(ResponseError, match="No scripts in execution"):
        asked("SCRIPT", "KILL")
    library = "#!lua name=lib\nredis.register_function('f', function() return 1 end)"
    assert asked("FUNCTION", "LOAD", library) == "lib"
    with pytest.raises(ResponseError, match="already exists") as caught:
        asked("FUNCTION", "LOAD", library)
    assert outcome_of(caught.value) is Outcome.REJECTED
    assert str(caught.value).count("127.0.0.1:") == 3
    assert asked("FUNCTION", "DELETE", "lib") == "OK"


def test_a_real_clusters_subscribers_are_counted_at_every_node(
    cluster: EmbeddedCluster, asked: Asked
) -> None:
    with ExitStack() as stack:
        for node in cluster.nodes:
            client: Any = stack.enter_context(client_of(node.url))
            pubsub = stack.enter_context(client.pubsub())
            pubsub.subscribe("news", f"news:{node.port}")
            pubsub.psubscribe("n*")
            for _ in range(3):
                assert pubsub.get_message(timeout=10) is not None
        names = asked("PUBSUB", "CHANNELS", "news*")
        assert sorted(names) == sorted(["news", *(f"news:{node.port}" for node in cluster.nodes)])
        first = f"news:{cluster.nodes[0].port}"
        assert asked("PUBSUB", "NUMSUB", "news", first) == ["news", 6, first, 1]
        assert asked("PUBSUB", "NUMPAT") == 6


def test_a_real_clusters_settings_and_logs(asked: Asked) -> None:
    assert asked("CONFIG", "SET", "slowlog-log-slower-than", "0") == "OK"
    asked("PING")
    assert asked("CONFIG", "SET", "slowlog-log-slower-than", "-1") == "OK"
    entries = asked("SLOWLOG", "GET", "-1")
    assert asked("SLOWLOG", "LEN") == len(entries) >= 6
    moments = [entry[1] for entry in entries]
    assert moments == sorted(moments, reverse=True)
    assert asked("SLOWLOG", "RESET") == "OK"
    assert asked("SLOWLOG", "LEN") == 0
    assert asked("LATENCY", "RESET") >= 0
    assert asked("WAIT", "0", "0") >= 0
    assert asked("PING", "hello") == "hello"
    assert asked("LASTSAVE") > 0
    with pytest.raises(ResponseError) as caught:
        asked("CONFIG", "SET", "no-such-setting", "1")
    assert outcome_of(caught.value) is Outcome.REJECTED


@pytest.mark.parametrize("protocol", [2, 3])
def test_redis_py_understands_what_was_gathered(protocol: int) -> None:
    callbacks: Any = redis.Redis(protocol=protocol).response_callbacks

    def told(name: str, *answers: Any) -> Any:
        return callbacks[name](gathered(name, *answers))

    assert told("PING", b"PONG", b"PONG") is True
    assert told("FLUSHALL", b"OK", b"OK") is True
    assert told("SCRIPT EXISTS", [1, 0], [1, 1]) == [True, False]
    assert told("PUBSUB NUMSUB", [b"a", 1], [b"a", 2]) == [(b"a", 3)]
    assert told("LASTSAVE", 30, 10).timestamp() == 10
    entries = [[[at, 100 + at, 5, [b"GET", b"k"], b"127.0.0.1:1", b""]] for at in (1, 2)]
    assert [entry["start_time"] for entry in told("SLOWLOG GET", *entries)] == [102, 101]
