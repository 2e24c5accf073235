"""SCAN of a cluster leaves nothing out, whatever becomes of its nodes and slots meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from redisutils.connection.packing import pack, unpack
from redisutils.testing import EmbeddedCluster, EmbeddedServer, find_servers
from redisutils.topology.cluster.keys import SLOTS, slot_of
from redisutils.topology.cluster.scanning import (
    Place,
    Scanning,
    cursor_in,
    slot_of_pattern,
    with_cursor,
)

from .servers import client_of

THREE = {"a": [(0, 5460)], "b": [(5461, 10922)], "c": [(10923, 16383)]}


def walk(scanning: Scanning, only: int | None = None) -> list[Place]:
    """Where a walk goes if each primary needs two calls, with the greatest of cursors."""
    places, cursor = [], 0
    while True:
        place = scanning.resume(cursor, only)
        assert place is not None
        places.append(place)
        own = 2**64 - 1 if place.cursor == 0 else 0
        cursor = int(scanning.answer(place, [b"%d" % own, []])[0])
        assert cursor_in([b"SCAN", b"%d" % cursor]) == cursor
        if not cursor:
            return places


def test_all_primaries_are_asked_from_the_lowest_slot_on() -> None:
    scanning = Scanning({"c": [(10923, 16383)], **THREE, "empty": []})
    assert [(place.node, place.cursor) for place in walk(scanning)] == [
        ("a", 0), ("a", 2**64 - 1), ("b", 0), ("b", 2**64 - 1), ("c", 0), ("c", 2**64 - 1),
    ]  # fmt: skip


def test_a_primary_of_many_ranges_is_asked_once() -> None:
    odd = {"a": [(n, n) for n in range(0, 100, 2)], "b": [(n, n) for n in range(1, 100, 2)]}
    assert [place.node for place in walk(Scanning(odd))] == ["a", "a", "b", "b"]


def test_slots_that_nobody_serves_are_passed_over() -> None:
    gaps = Scanning({"a": [(5, 10)], "b": [(20, 30)]})
    assert [place.node for place in walk(gaps)] == ["a", "a", "b", "b"]
    assert Scanning({}).resume(0) is None
    place = gaps.resume(0)
    assert place is not None
    begun = int(gaps.answer(place, [b"17", []])[0])
    remaining = Scanning({"b": [(20, 30)]}).resume(begun)
    assert remaining is not None
    assert (remaining.node, remaining.cursor) == ("b", 0)
    assert Scanning({"a": [(0, 3)]}).resume(begun) is None


@pytest.mark.parametrize(("found", "next_"), [(b"0", b"0"), ("0", "0")])
def test_the_answer_is_shaped_as_a_servers(found: Any, next_: Any) -> None:
    scanning = Scanning({"a": [(0, SLOTS - 1)]})
    place = scanning.resume(0)
    assert place is not None
    assert scanning.answer(place, [found, ["k"]]) == [next_, ["k"]]
    going_on = scanning.answer(place, [type(found)(b"7") if found == b"0" else "7", []])[0]
    assert type(going_on) is type(found)
    assert int(going_on) > 0


def test_a_failover_begins_the_present_primary_anew_and_no_other() -> None:
    scanning = Scanning(THREE)
    cursor = 0
    for own in (b"0", b"9"):
        place = scanning.resume(cursor)
        assert place is not None
        cursor = int(scanning.answer(place, [own, []])[0])
    assert scanning.resume(cursor) == Place("b", 9, 5461, 0)
    assert Scanning({**THREE, "c": [], "d": THREE["c"]}).resume(cursor) == Place("b", 9, 5461, 0)
    assert Scanning({**THREE, "a": [], "d": THREE["a"]}).resume(cursor) == Place("b", 9, 5461, 0)
    assert Scanning({**THREE, "b": [], "d": THREE["b"]}).resume(cursor) == Place("d", 0, 5461, 0)


def test_slots_that_go_to_one_that_is_done_are_asked_for_there() -> None:
    scanning = Scanning(THREE)
    place = scanning.resume(0)
    assert place is not None
    cursor = int(scanning.answer(place, [b"0", []])[0])
    moved = Scanning({**THREE, "a": [(0, 5460), (16000, 16383)], "c": [(10923, 15999)]})
    assert moved.resume(cursor) == Place("b", 0, 5461, 5461)
    place = moved.resume(cursor)
    assert place is not None
    nodes = []
    while cursor:
        place = moved.resume(cursor)
        assert place is not None
        nodes.append(place.node)
        cursor = int(moved.answer(place, [b"0", []])[0])
    assert nodes == ["b", "c", "a"]


# A cluster in miniature: its slots move in blocks, each with a few keys.

BLOCKS = 8
WIDTH = SLOTS // BLOCKS
KEYS = [(block, key) for block in range(BLOCKS) for key in range(3)]


@dataclass
class Miniature:
    owners: list[str] = field(default_factory=lambda: [*"aaabbccc"])

    def map(self) -> Scanning:
        ranges: dict[str, list[tuple[int, int]]] = {}
        for block, owner in enumerate(self.owners):
            ranges.setdefault(owner, []).append((block * WIDTH, block * WIDTH + WIDTH - 1))
        return Scanning(ranges)

    def change(self, events: list[tuple[str, Any, str]]) -> None:
        for kind, what, to in events:
            if kind == "move":
                self.owners[what] = to
            else:
                self.owners = [to if owner == what else owner for owner in self.owners]

    def scan(self, node: str, cursor: int) -> tuple[bytes, list[tuple[int, int]]]:
        """Two elements of a node, in an order of its own. Its cursor is the last one's place."""
        places = sorted((crc32(f"{node}{key}".encode()) + 1, key) for key in KEYS)
        mine = [(at, key) for at, key in places if self.owners[key[0]] == node and at > cursor]
        page = mine[:2]
        return b"%d" % (page[-1][0] if len(mine) > 2 else 0), [key for _, key in page]


moves = st.tuples(st.just("move"), st.integers(0, BLOCKS - 1), st.sampled_from("abcde"))
failovers = st.tuples(st.just("failover"), st.sampled_from("abcde"), st.sampled_from("vwxyz"))
meanwhile = st.lists(st.lists(st.one_of(moves, failovers), max_size=3), max_size=30)


@given(meanwhile)
@settings(max_examples=300)
@example([[], [], [], [("move", 7, "a")]])
def test_nothing_is_left_out_while_slots_move_and_replicas_take_over(
    events: list[list[tuple[str, Any, str]]],
) -> None:
    cluster, found, cursor = Miniature(), set(), 0
    rounds = iter(events)
    for _ in range(2 * len(events) + 100):
        scanning, owners = cluster.map(), cluster.owners.copy()
        place = scanning.resume(cursor)
        assert place is not None
        cluster.change(next(rounds, []))
        own, elements = cluster.scan(place.node, place.cursor)
        if cluster.owners == owners:
            found.update(elements)
            cursor = int(scanning.answer(place, [own, elements])[0])
            if not cursor:
                break
        cluster.change(next(rounds, []))
    assert cursor == 0  # it comes to an end when the changes do
    assert found == set(KEYS)


@given(st.integers(0, 2**156 - 1), st.one_of(st.none(), st.integers(0, SLOTS - 1)))
def test_any_cursor_leads_somewhere(cursor: int, only: int | None) -> None:
    place = Scanning(THREE).resume(cursor, only)
    assert place is not None
    assert 0 <= place.cursor < 2**64
    if only is not None:
        assert place.node == next(n for n, ((lo, hi),) in THREE.items() if lo <= only <= hi)


# Words


@pytest.mark.parametrize(
    ("word", "cursor"),
    [
        ("0", 0), ("17", 17), (str(2**156 - 1), 2**156 - 1), (str(2**156), None), ("9" * 500, None),
        ("", None), ("-1", None), ("+1", None), ("1_0", None), ("x", None), (" 1", None),
        ("1\n", None), ("\N{ARABIC-INDIC DIGIT ONE}", None),
    ],
)  # fmt: skip
def test_what_a_cursor_is(word: str, cursor: int | None) -> None:
    assert cursor_in([b"SCAN", word.encode()]) == cursor


def test_a_scan_without_a_cursor_is_for_the_server_to_refuse() -> None:
    assert cursor_in([b"SCAN"]) is None


def test_the_other_arguments_go_along() -> None:
    words = unpack(pack(["scan", str(2**100), "MATCH", b"\xff*", "COUNT", 10, "TYPE", "hash"]))[0]
    expected = pack(["scan", str(2**64 - 1), "MATCH", b"\xff*", "COUNT", 10, "TYPE", "hash"])
    assert with_cursor(words, 2**64 - 1) == expected


@pytest.mark.parametrize(
    ("pattern", "slot"),
    [
        ("{user:1}:*", slot_of(b"user:1")),
        ("orders:{user:1}?", slot_of(b"user:1")),
        ("{a}{b}*", slot_of(b"a")),
        ("{a{b}*", slot_of(b"a{b")),
        ("a}{b}*", slot_of(b"b")),
        ("{a]}*", slot_of(b"a]")),
        ("plain", slot_of(b"plain")),
        ("{}plain", slot_of(b"{}plain")),
        ("{open", slot_of(b"{open")),
        ("*", None), ("user:*", None), ("*{a}", None), ("?{a}*", None), ("{a*}", None),
        ("{a[bc]}*", None), ("{a\\}b}*", None), ("\\{a}*", None), ("{}*", None), ("{}{a}*", None),
        ("{a*", None), ("", slot_of(b"")),
    ],
)  # fmt: skip
def test_the_slot_of_a_pattern(pattern: str, slot: int | None) -> None:
    assert slot_of_pattern([b"SCAN", b"0", b"COUNT", b"5", b"match", pattern.encode()]) == slot


def test_the_last_pattern_counts_and_values_are_no_options() -> None:
    assert slot_of_pattern([b"SCAN", b"0"]) is None
    assert slot_of_pattern([b"SCAN", b"0", b"MATCH"]) is None
    assert slot_of_pattern([b"SCAN", b"0", b"TYPE", b"MATCH", b"COUNT", b"1"]) is None
    both = [b"SCAN", b"0", b"MATCH", b"{a}*", b"MATCH", b"*"]
    assert slot_of_pattern(both) is None


# Of what a pattern is made, in all arrangements; and keys that it may match.
letters = st.sampled_from(["{", "}", "a", "*", "?", "[a{]", "\\", "\\{", "x"])


@pytest.fixture(scope="module", params=find_servers())
def cluster(request: pytest.FixtureRequest) -> Iterator[EmbeddedCluster]:
    with EmbeddedCluster(3, 1, request.param) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedServer]:
    with EmbeddedServer() as server:
        yield server


def test_what_matches_a_pattern_with_a_slot_lives_there(server: EmbeddedServer) -> None:
    """As the server matches, over all short keys of the letters that matter."""
    keys = {""}
    for _ in range(5):
        keys |= {key + letter for key in keys for letter in "{}a"}
    with client_of(server.url) as client:
        client.mset(dict.fromkeys(keys, ""))

        @given(st.lists(letters, max_size=6).map("".join))
        @settings(max_examples=200)
        def check(pattern: str) -> None:
            slot = slot_of_pattern([b"SCAN", b"0", b"MATCH", pattern.encode()])
            if slot is not None:
                matching: Any = client.keys(pattern)
                assert {slot_of(key.encode()) for key in matching} <= {slot}

        check()


# Real clusters


class Scanner:
    """What a client does with these functions, over connections to each node."""

    def __init__(self, cluster: EmbeddedCluster) -> None:
        self.cluster = cluster
        self.asked: list[str] = []

    def step(self, *call: Any) -> tuple[int, list[str]]:
        words = unpack(pack(call))[0]
        cursor = cursor_in(words)
        assert cursor is not None
        scanning, urls = self.map()
        place = scanning.resume(cursor, slot_of_pattern(words))
        assert place is not None
        self.asked.append(place.node)
        with client_of(urls[place.node]) as client:
            client.response_callbacks.clear()
            send: Any = client.execute_command
            reply = send(*unpack(with_cursor(words, place.cursor))[0])
        found, elements = scanning.answer(place, reply)
        return int(found), elements

    def map(self) -> tuple[Scanning, dict[str, str]]:
        ranges: dict[str, list[tuple[int, int]]] = {}
        urls: dict[str, str] = {}
        for node in self.cluster.primaries:
            with client_of(node.url) as client:
                send: Any = client.execute_command
                urls[send("CLUSTER", "MYID")] = node.url
        with client_of(self.cluster.primaries[0].url) as client:
            client.response_callbacks.clear()
            send = client.execute_command
            for first, last, primary, *_ in send("CLUSTER", "SLOTS"):
                ranges.setdefault(primary[2], []).append((first, last))
        return Scanning(ranges), urls

    def all(self, *options: Any) -> list[str]:
        cursor, elements = self.step("SCAN", 0, *options)
        while cursor:
            cursor, more = self.step("SCAN", cursor, *options)
            elements += more
        return elements


def fill(cluster: EmbeddedCluster, keys: list[str]) -> None:
    for node in cluster.primaries:
        with client_of(node.url) as client, client.pipeline(transaction=False) as pipe:
            for key in keys:
                if cluster.node_for(key) is node:
                    pipe.set(key, "v")
            pipe.execute()


KEYS_THERE = [*(f"k{number}" for number in range(300)), *(f"{{t}}{number}" for number in range(30))]


def test_a_real_cluster_is_scanned_whole(cluster: EmbeddedCluster) -> None:
    fill(cluster, KEYS_THERE)
    scanner = Scanner(cluster)
    assert sorted(scanner.all("COUNT", 50)) == sorted(KEYS_THERE)
    assert len(set(scanner.asked)) == 3
    assert sorted(Scanner(cluster).all("MATCH", "k1?", "COUNT", 1000, "TYPE", "string")) == [
        f"k1{number}" for number in range(10)
    ]
    assert Scanner(cluster).all("TYPE", "hash") == []


def test_of_a_real_cluster_one_node_is_asked_for_one_slot(cluster: EmbeddedCluster) -> None:
    fill(cluster, KEYS_THERE)
    scanner = Scanner(cluster)
    assert sorted(scanner.all("MATCH", "{t}*", "COUNT", 10)) == sorted(
        key for key in KEYS_THERE if key.startswith("{t}")
    )
    assert len(set(scanner.asked)) == 1


@pytest.mark.asyncio(loop_factories=["asyncio"])
async def test_a_real_cluster_changes_while_it_is_scanned(cluster: EmbeddedCluster) -> None:
    fill(cluster, KEYS_THERE)
    first, second, third = sorted(
        cluster.primaries,
        key=lambda node: next(slot for slot in range(SLOTS) if cluster.owner_of(slot) is node),
    )
    scanner = Scanner(cluster)
    slot = next(cluster.slot_of(key) for key in KEYS_THERE if cluster.node_for(key) is third)
    await cluster.wait_in_sync()
    cursor, found = scanner.step("SCAN", 0, "COUNT", 20)
    changes = 0
    while cursor:
        nodes = list(dict.fromkeys(scanner.asked))
        if len(nodes) == 2 and not changes:  # the walk has left the first
            await cluster.move_slot(slot, first)
            changes = 1
        elif len(nodes) == 2 and changes == 1:  # and is amidst the second
            await cluster.failover(cluster.replicas_of(second)[0])
            changes = 2
        cursor, elements = scanner.step("SCAN", cursor, "COUNT", 20)
        found += elements
    assert changes == 2
    assert set(found) == set(KEYS_THERE)
