"""Order books: what is not known to be true is never shown. The book itself, without a server."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisutils.trading.errors import Crossed, InvalidValue
from redisutils.trading.market.book import Applied, Book, BookDelta, BookSnapshot, Change, Level
from redisutils.trading.market.checksums import kraken, okx

NOW = 1_795_000_000_000_000_000


def snapshot(bids: Any, asks: Any, seq: int = 10, checksum: int | None = None) -> BookSnapshot:
    return BookSnapshot(bids=bids, asks=asks, seq=seq, ts_event=NOW, ts_recv=NOW, checksum=checksum)


def delta(bids: Any = (), asks: Any = (), **numbers: Any) -> BookDelta:
    return BookDelta(bids=bids, asks=asks, ts_event=NOW + 1, ts_recv=NOW + 1, **numbers)


def good_book(**options: Any) -> Book:
    book = Book("0.5", **options)
    bids, asks = [("99.5", "2"), ("99", "1")], [("100.50", "3"), ("101", "4")]
    assert book.reset(snapshot(bids, asks)) == "applied"
    return book


def test_a_book_shows_nothing_before_its_snapshot() -> None:
    book = Book("0.5")
    assert book.state == "empty"
    assert book.apply(delta([("1", "1")], seq=1)) == "stale"
    assert (book.bids(), book.asks()) == ([], [])
    assert repr(book) == "<Book empty at 0: 0 bids, 0 asks>"


def test_best_first_in_the_venues_own_digits() -> None:
    book = good_book()
    assert book.bids() == [("99.5", "2"), ("99", "1")]
    assert book.asks() == [("100.50", "3"), ("101", "4")]
    assert (book.bids(1), book.asks(1)) == ([("99.5", "2")], [("100.50", "3")])
    assert (book.bids(0), book.asks(0)) == ([], [])
    assert repr(book) == "<Book good at 10: 2 bids, 2 asks>"


def test_changes_and_deletions() -> None:
    book = good_book()
    changed: dict[tuple[bool, int], Change] = {}
    new = delta([("99.50", "0.000"), ("98", "7")], [("100.5", "9"), ("200", "0")], seq=11)
    assert book.apply(new, changed) == "applied"
    assert book.bids() == [("99", "1"), ("98", "7")]
    assert book.asks() == [("100.5", "9"), ("101", "4")]
    assert book.seq == 11
    assert list(changed.values()) == [
        Change(True, 199, "99.50", ""),
        Change(True, 196, "98", "7"),
        Change(False, 201, "100.5", "9"),
        Change(False, 400, "200", ""),
    ]


@pytest.mark.parametrize(
    ("numbers", "expected", "seq"),
    [
        ({"seq": 11}, "applied", 11),
        ({"seq": 10}, "old", 10),
        ({"seq": 12}, "stale", 10),
        ({"first": 9, "seq": 12}, "applied", 12),
        ({"first": 11, "seq": 12}, "applied", 12),
        ({"first": 12, "seq": 13}, "stale", 10),
        ({"first": 8, "seq": 10}, "old", 10),
        ({"prev": 10, "seq": 17}, "applied", 17),
        ({"prev": 10, "seq": 3}, "applied", 3),  # it counts anew
        ({"prev": 10, "seq": 10}, "applied", 10),  # a sign of life
        ({"prev": 9, "seq": 10}, "old", 10),
        ({"prev": 11, "seq": 12}, "stale", 10),
        ({"prev": 9, "seq": 11}, "applied", 11),  # the snapshot is from between
        ({"prev": 11, "seq": 3}, "old", 10),
        ({}, "applied", 11),
    ],
)
def test_the_sequence(numbers: dict[str, int], expected: Applied, seq: int) -> None:
    book = good_book()
    assert book.apply(delta([("97", "1")], **numbers)) == expected
    assert book.seq == seq
    assert (("97", "1") in book.bids()) == (expected == "applied")
    if expected == "stale":
        assert (book.state, book.why) == ("stale", "gap")
        assert (book.bids(), book.asks(), book.locked) == ([], [], False)
        assert book.apply(delta(seq=11)) == "stale"
        assert book.reset(snapshot([("1", "1")], [], seq=50)) == "applied"
        assert (book.state, book.why, book.bids()) == ("good", "", [("1", "1")])


def test_only_a_snapshot_may_be_from_between_two_linked_changes() -> None:
    """OKX and Binance: of what came while the snapshot was asked for, the first change that counts
    has the snapshot's number between its link and its own; then each links to the one before."""
    book = good_book()
    assert book.apply(delta([("97", "1")], prev=7, seq=9)) == "old"
    assert book.apply(delta([("97", "1")], prev=9, seq=13)) == "applied"
    assert book.apply(delta([("96", "1")], prev=13, seq=15)) == "applied"
    assert book.apply(delta([("95", "1")], prev=14, seq=17)) == "stale"
    assert book.why == "gap"


def test_among_numbered_changes_none_is_without_its_number() -> None:
    book = good_book()
    assert book.apply(delta([("98", "1")], seq=11)) == "applied"
    with pytest.raises(InvalidValue, match="seq=None of a change after number 11"):
        book.apply(delta([("98", "2")]))
    assert (book.state, book.seq, book.bids()[-1]) == ("good", 11, ("98", "1"))
    assert book.apply(delta([("98", "2")], seq=12)) == "applied"


def test_a_crossed_book_is_refused() -> None:
    book = good_book()
    with pytest.raises(Crossed, match=r"snapshot makes a crossed book: the bid 3 is above the ask"):
        book.reset(snapshot([("3", "1")], [("2.5", "1")]))
    assert book.bids(1) == [("99.5", "2")]  # nothing has changed
    with pytest.raises(Crossed, match=r"change .* the bid 101 is above the ask 100\.50"):
        book.apply(delta([("101", "1")], seq=11))
    assert (book.state, book.why, book.bids()) == ("stale", "crossed", [])


def test_a_locked_book_is_one_and_says_so() -> None:
    book = good_book()
    assert not book.locked
    assert book.apply(delta([("100.5", "1")], seq=11)) == "applied"
    assert book.locked


@pytest.mark.parametrize(
    ("level", "text"),
    [
        ((99.5, "1"), "price=99.5 is a float"),
        (("99.5", 1.0), "quantity=1.0 is a float"),
        (("99.5", "-1"), "quantity=-1 must not be negative"),
        (("99.7", "1"), "price=99.7 must be a multiple of tick=0.5"),
        (("nan", "1"), "price='nan'"),
        (("9" * 17, "1"), "more than 2\\*\\*53 times tick"),
    ],
)
def test_levels_that_cannot_be_meant(level: Any, text: str) -> None:
    book = good_book()
    with pytest.raises(InvalidValue, match=text):
        book.apply(delta([("98", "1"), level], seq=11))
    with pytest.raises(InvalidValue, match=text):
        book.reset(snapshot([level], []))
    assert book.bids() == [("99.5", "2"), ("99", "1")]
    assert (book.state, book.seq) == ("good", 10)
    wrong: dict[str, Any]
    for wrong in ({"tick": "0"}, {"tick": "1", "depth": 0}, {"tick": 0.5}):
        with pytest.raises(InvalidValue, match="=0"):
            Book(**wrong)


def test_decimals_and_numbers_are_taken_too() -> None:
    book = Book(Decimal("0.00000001"))
    book.reset(snapshot([(Decimal("1E-8"), Decimal(10))], [(2, 3)]))
    assert (book.bids(), book.asks()) == ([("0.00000001", "10")], [("2", "3")])


def test_what_is_deeper_than_is_kept_goes() -> None:
    book = good_book(depth=2)
    changed: dict[tuple[bool, int], Change] = {}
    assert book.apply(delta([("100", "5")], [("100", "5")], seq=11), changed) == "applied"
    assert book.bids() == [("100", "5"), ("99.5", "2")]
    assert book.asks() == [("100", "5"), ("100.50", "3")]
    assert changed[True, 198] == Change(True, 198, "99", "")
    assert changed[False, 202] == Change(False, 202, "101", "")


# -- checksums -----------------------------------------------------------------------------------

# https://docs.kraken.com/api/docs/guides/spot-ws-book-v1, the example's book and its checksum.
KRAKEN_V1 = (
    [f"0.0{price}" for price in (5000, 4995, 4990, 4980, 4975, 4970, 4965, 4960, 4955, 4950)],
    [f"0.0{price}" for price in range(5005, 5051, 5)],
    974947235,
)

# https://docs.kraken.com/api/docs/guides/spot-ws-book-v2, likewise.
KRAKEN_V2_BIDS = """45283.5 0.10000000 45283.4 1.54582015 45282.1 0.10000000 45281.0 0.10000000
45280.3 1.54592586 45279.0 0.07990000 45277.6 0.03310103 45277.5 0.30000000 45277.3 1.54602737
45276.6 0.15445238""".split()
KRAKEN_V2_ASKS = """45285.2 0.00100000 45286.4 1.54571953 45286.6 1.54571109 45289.6 1.54560911
45290.2 0.15890660 45291.8 1.54553491 45294.7 0.04454749 45296.1 0.35380000 45297.5 0.09945542
45299.5 0.18772827""".split()


def pairs(words: list[str]) -> list[Level]:
    return list(zip(words[::2], words[1::2], strict=True))


def test_krakens_checksums() -> None:
    book = Book("0.00001", checksum=kraken)
    bids, asks, expected = KRAKEN_V1
    bid_levels, ask_levels = ([(price, "0.00000500") for price in side] for side in (bids, asks))
    bid_levels.append(("0.00001", "1"))  # below the tenth level nothing counts
    assert book.reset(snapshot(bid_levels, ask_levels, checksum=expected)) == "applied"
    book = Book("0.1", depth=10, checksum=kraken)
    given = snapshot(pairs(KRAKEN_V2_BIDS), pairs(KRAKEN_V2_ASKS), checksum=3310070434)
    assert book.reset(given) == "applied"
    assert kraken(book) == 3310070434


@pytest.mark.parametrize(
    ("bids", "asks", "expected"),
    [  # OKX's (then OKEx) documentation of the checksum of its depth channel, both examples
        ("3366.1 7 3366 6", "3366.8 9 3368 8", -1881014294),
        ("3366.1 7", "3366.8 9 3368 8 3372 8", 831078360),
    ],
)
def test_okxs_checksums(bids: str, asks: str, expected: int) -> None:
    book = Book("0.1", checksum=okx)
    given = snapshot(pairs(bids.split()), pairs(asks.split()), checksum=expected)
    assert book.reset(given) == "applied"
    assert okx(book) == expected


def test_another_checksum_makes_it_stale() -> None:
    book = good_book(checksum=lambda book: len(book.bids()))
    assert book.apply(delta([("98", "1")], seq=11, checksum=3)) == "applied"
    assert book.apply(delta([("97", "1")], seq=12, checksum=3)) == "stale"
    assert (book.state, book.why, book.bids()) == ("stale", "checksum", [])
    assert book.reset(snapshot([("1", "1")], [], checksum=2)) == "stale"
    assert book.reset(snapshot([("1", "1")], [], checksum=1)) == "applied"
    assert book.apply(delta([("97", "1")], seq=11)) == "applied"  # none was sent along


# -- any sequence of changes ---------------------------------------------------------------------

steps = st.lists(
    st.tuples(st.booleans(), st.integers(1, 30), st.integers(0, 3), st.integers(1, 12)), max_size=60
)


@given(steps)
def test_it_is_what_a_plain_dict_would_be(changes: list[tuple[bool, int, int, int]]) -> None:
    book = Book(1)
    book.reset(snapshot([], [], seq=0))
    plain: dict[bool, dict[int, int]] = {True: {}, False: {}}
    seq = 0
    for bid, price, quantity, ahead in changes:
        level = [(str(price), str(quantity))]
        number = seq + (ahead == 12) + 1
        try:
            told = book.apply(delta(level if bid else [], [] if bid else level, seq=number))
        except Crossed:
            told = "stale"
            trial = {**plain[bid], price: quantity}
            bids = trial if bid else plain[True]
            asks = plain[False] if bid else trial
            assert max(p for p, q in bids.items() if q) > min(p for p, q in asks.items() if q)
        else:
            assert (told == "stale") == (ahead == 12)
        if told == "stale":
            assert (book.bids(), book.asks()) == ([], [])
            return
        seq = number
        plain[bid][price] = quantity
        shown = {
            True: {int(p): int(q) for p, q in book.bids()},
            False: {int(p): int(q) for p, q in book.asks()},
        }
        assert shown == {side: {p: q for p, q in of.items() if q} for side, of in plain.items()}
        assert [int(p) for p, _ in book.bids()] == sorted(shown[True], reverse=True)
        assert [int(p) for p, _ in book.asks()] == sorted(shown[False])


@pytest.mark.parametrize("wrong", [{"99": "5"}, ["99"], [("99",)], [("99", "5", "1")], [5]])
def test_levels_are_pairs(wrong: Any) -> None:
    """Of the two letters of a key, price and quantity would be made."""
    for bids, asks in ((wrong, ()), ((), wrong)):
        with pytest.raises(InvalidValue, match=r"^level=.* must be a pair"):
            Book("1").reset(BookSnapshot(bids=bids, asks=asks, seq=1, ts_event=NOW, ts_recv=NOW))
