"""Whom of several sentinels to believe."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from redisutils.address import Address
from redisutils.errors import ProtocolError
from redisutils.topology.plan import SentinelPlan
from redisutils.topology.sentinel.answers import Answer, Peer, Primary, Replica, decide, read
from redisutils.topology.sentinel.company import MOST, Company
from redisutils.topology.sentinel.whereabouts import BEHIND, Whereabouts

from .watched import reaching

OLD, NEW, WRONG = (Address("127.0.0.1", port) for port in (1, 2, 3))


def says(address: Address | None, epoch: int) -> Answer:
    return Answer("", address, epoch)


@pytest.mark.parametrize(
    ("answers", "present", "expected"),
    [
        pytest.param([], None, None, id="nobody answers"),
        pytest.param([says(None, -1)], None, None, id="nobody knows"),
        pytest.param([says(NEW, 3)], None, Primary(NEW, 3), id="any one will do"),
        pytest.param([says(OLD, -1)], None, Primary(OLD, -1), id="one that tells no epoch"),
        pytest.param(
            [says(NEW, 3), says(OLD, 2), says(OLD, 2)], None, Primary(OLD, 2), id="a majority"
        ),
        pytest.param(
            [says(NEW, 3), says(NEW, 3), says(OLD, 2)],
            Primary(OLD, 2),
            Primary(NEW, 3),
            id="a failover of which one has not heard",
        ),
        pytest.param(
            [says(NEW, 3), says(OLD, 2)], Primary(OLD, 2), Primary(NEW, 3), id="a tie: the epoch"
        ),
        pytest.param(
            [says(WRONG, 2), says(OLD, 2)], Primary(OLD, 2), Primary(OLD, 2), id="a tie: it stays"
        ),
        pytest.param([says(OLD, 2)], Primary(NEW, 3), None, id="never back"),
        pytest.param(
            [says(OLD, 2), says(OLD, 2), says(NEW, 3)],
            Primary(NEW, 3),
            Primary(NEW, 3),
            id="a stale majority",
        ),
        pytest.param(
            [says(WRONG, 10**9), says(OLD, 2), says(OLD, 2)],
            Primary(OLD, 2),
            Primary(OLD, 2),
            id="a liar",
        ),
        pytest.param(
            [says(OLD, 10**9), says(OLD, 2), says(OLD, 2)],
            Primary(OLD, 2),
            Primary(OLD, 2),
            id="one that exaggerates",
        ),
    ],
)
def test_who_decides(
    answers: list[Answer], present: Primary | None, expected: Primary | None
) -> None:
    assert decide(answers, present) == expected
    assert decide(reversed(answers), present) == expected


answers_of_any_kind = st.builds(says, st.sampled_from([None, OLD, NEW, WRONG]), st.integers(-1, 4))


@given(st.lists(answers_of_any_kind, max_size=7), answers_of_any_kind)
def test_one_voice_against_a_majority_changes_nothing(others: list[Answer], liar: Answer) -> None:
    honest = [says(NEW, 3)] * (len(others) + 2)
    found = decide([*others, liar, *honest], Primary(NEW, 3))
    assert found == Primary(NEW, 3)


@given(st.lists(answers_of_any_kind), st.integers(-1, 4))
def test_the_epoch_never_falls(answers: list[Answer], epoch: int) -> None:
    found = decide(answers, Primary(OLD, epoch))
    assert found is None or found.epoch >= epoch


class Followed:
    """Whereabouts, by a clock of ours, and what came of them."""

    def __init__(self) -> None:
        self.now = 0.0
        self.moves: list[tuple[Address, Address]] = []
        self.begun_anew = 0
        self.where = Whereabouts(
            lambda old, new: self.moves.append((old, new)), self._anew, lambda: self.now
        )
        assert self.where.decide([says(OLD, 2)] * 3, 3, final=False)

    def _anew(self) -> None:
        self.begun_anew += 1


def test_a_majority_of_all_is_not_waited_for_and_of_some_is() -> None:
    followed = Followed()
    where = followed.where
    assert not where.decide([says(NEW, 3)] * 2, 4, final=False)
    assert where.present == Primary(OLD, 2)
    assert not where.contradicted_by(says(NEW, 2))
    assert where.contradicted_by(says(NEW, 3))
    assert where.decide([says(NEW, 3)] * 2, 3, final=False)
    assert where.present == Primary(NEW, 3)
    assert followed.moves == [(OLD, NEW)]
    assert not where.contradicted_by(says(NEW, 4))
    assert not where.contradicted_by(says(OLD, 2))
    assert not where.decide([says(WRONG, 4)], 3, final=True)  # nobody else is left
    assert followed.moves == [(OLD, NEW), (NEW, WRONG)]


def test_an_older_epoch_has_to_last_and_needs_a_majority_of_all() -> None:
    followed = Followed()
    where = followed.where
    older = [says(NEW, 1)] * 2
    assert (where.decide(older, 3, final=False), where.is_behind) == (False, False)
    assert (where.decide(older, 3, final=True), where.is_behind) == (True, True)
    followed.now = BEHIND / 2
    few = older[:1]
    assert (where.decide(few, 3, final=True), where.is_behind) == (False, False)  # begins again
    assert where.decide(older, 3, final=True)
    followed.now += BEHIND - 0.1
    assert where.decide(older, 3, final=True)
    assert (where.present, followed.begun_anew) == (Primary(OLD, 2), 0)
    followed.now += 0.1
    assert where.decide(older, 3, final=True)
    assert (where.present, followed.begun_anew) == (Primary(NEW, 1), 1)
    assert not where.is_behind


def test_who_has_heard_meanwhile_ends_the_wait_for_an_older_epoch() -> None:
    followed = Followed()
    where = followed.where
    assert where.decide([says(NEW, 1)] * 2, 3, final=True)
    assert where.decide([says(OLD, 2)] * 2, 3, final=False)
    assert not where.is_behind
    followed.now = BEHIND + 1
    assert where.decide([says(NEW, 1)] * 2, 3, final=True)
    assert followed.moves == []


MASTER = {
    "flags": "master,failover_in_progress",
    "config-epoch": "7",
    "quorum": "2",
    "num-other-sentinels": "2",
}
REPLICAS = [
    {
        "ip": "10.0.0.2",
        "port": "6379",
        "flags": "slave",
        "master-link-status": "ok",
        "slave-repl-offset": "12",
    },
    {"ip": "10.0.0.3", "port": "6379", "flags": "s_down,slave,disconnected"},
]
SENTINELS = [{"ip": "10.0.0.4", "port": "26379", "runid": "abc"}]


def flat(told: dict[str, str]) -> list[str]:
    return [word for pair in told.items() for word in pair]


@pytest.mark.parametrize("shape", [dict, flat], ids=["RESP3", "RESP2"])
def test_what_a_sentinel_says_is_read_and_mapped(shape: Any) -> None:
    via = {
        Address("10.0.0.1", 6379): Address("localhost", 1),
        Address("10.0.0.2", 6379): Address("localhost", 2),
        Address("10.0.0.4", 26379): Address("localhost", 4),
    }
    answer = read(
        ["10.0.0.1", "6379"],
        shape(MASTER),
        [shape(each) for each in REPLICAS],
        [shape(each) for each in SENTINELS],
        "me",
        here="there",
        via=via,
    )
    assert answer == Answer(
        "me",
        Address("localhost", 1),
        7,
        frozenset({"master", "failover_in_progress"}),
        2,
        2,
        (
            Replica(Address("localhost", 2), True, 12),
            Replica(Address("10.0.0.3", 6379), False, 0),
        ),
        (Peer(Address("localhost", 4), "abc"),),
    )
    assert answer.failing_over


def test_of_one_that_tells_only_the_address() -> None:
    no = ValueError("NOPERM")
    answer = read(["host", "1"], no, no, no, no, here="there", via={})
    assert answer == Answer("there", Address("host", 1))


@pytest.mark.parametrize("where", ["OK", 1, ["host"], ["host", "no port"]])
def test_what_no_sentinel_says(where: Any) -> None:
    with pytest.raises(ProtocolError, match="there answers as no sentinel does"):
        read(where, {}, [], [], "", here="there", via={})


async def test_one_alone_cannot_have_us_connect_to_any_number() -> None:
    plan = SentinelPlan((reaching("127.0.0.1", 1),), "mymaster")
    company = Company(plan, lambda *_: None)
    (first,) = company
    crowd = tuple(Peer(Address("127.0.0.2", port), str(port)) for port in range(1, 1000))
    first.answer = Answer("first", OLD, 1, sentinels=crowd)
    assert company.learn(keep=lambda _: False)
    assert len(company) == MOST
    assert not company.learn(keep=lambda _: False)
