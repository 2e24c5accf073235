"""What a sentinel says of a primary, in our words, and what several of them come to.

Sentinels may contradict each other: one has not heard of a failover yet, or has been cut off since
before it, or is simply wrong. Two things decide between them. How many say the same; and the
**epoch**, the number of the configuration that each speaks of, which a majority of them has voted
for and which only grows (https://valkey.io/topics/sentinel/, "Configuration epochs").
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from redisutils.address import Address, AddressMap
from redisutils.errors import ProtocolError

__all__ = [
    "Answer",
    "Peer",
    "Primary",
    "Replica",
    "Survey",
    "backers",
    "decide",
    "read",
    "system_size",
]


class Peer(NamedTuple):
    """A sentinel, as another one tells of it."""

    address: Address
    identity: str
    """Its run id, by which one that has several addresses is known; or empty."""


class Replica(NamedTuple):
    """A replica, as a sentinel sees it."""

    address: Address
    linked: bool
    """Whether it is up, and has a link to its primary."""
    offset: int
    """How far it has come, in bytes of the replication stream."""


class Primary(NamedTuple):
    """Where the primary is, in the configuration of this epoch."""

    address: Address
    epoch: int


@dataclass(frozen=True, slots=True)
class Answer:
    """What one sentinel says."""

    identity: str
    """Its run id, or where it is if it does not tell."""
    address: Address | None
    """Of the primary. None: it knows none of this name."""
    epoch: int = -1
    """-1: it does not tell."""
    flags: frozenset[str] = frozenset()
    quorum: int | None = None
    """How many sentinels must see that the primary is down."""
    others: int = 0
    """How many other sentinels it knows."""
    replicas: tuple[Replica, ...] = ()
    sentinels: tuple[Peer, ...] = ()

    @property
    def failing_over(self) -> bool:
        return "failover_in_progress" in self.flags


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of the sentinels at this moment."""

    primary: Primary | None
    replicas: tuple[Replica, ...]
    size: int
    """How many sentinels there are."""
    quorum: int | None
    """How many of them must see that the primary is down."""
    answers: tuple[tuple[str, Answer], ...]
    """Of those that answer, by name."""
    troubles: Mapping[str, str]
    """Why the others do not, by name."""
    suspicion: str | None
    """Why nothing is written at this moment, if that is so."""


def read(
    where: Any, master: Any, replicas: Any, sentinels: Any, myid: Any, *, here: str, via: AddressMap
) -> Answer:
    """The answers to SENTINEL GET-MASTER-ADDR-BY-NAME, MASTER, REPLICAS, SENTINELS and MYID.

    Each is as it came in RESP2 or RESP3, decoded; or the error with which it was refused.

    Args:
        here: where the sentinel itself is.
        via: how announced addresses are to be reached.

    Raises:
        ProtocolError: that is no answer of a sentinel.
    """
    try:
        if where is None:
            return Answer(_identity(myid, here), None)
        host, port = where
        state = {} if isinstance(master, Exception) else _pairs(master)
        return Answer(
            identity=_identity(myid, here),
            address=_reached(host, port, via),
            epoch=int(state.get("config-epoch", -1)),
            flags=frozenset(filter(None, str(state.get("flags", "")).split(","))),
            quorum=int(state["quorum"]) if "quorum" in state else None,
            others=int(state.get("num-other-sentinels", 0)),
            replicas=tuple(_replica(each, via) for each in _maps(replicas)),
            sentinels=tuple(
                Peer(_reached(each["ip"], each["port"], via), str(each.get("runid", "")))
                for each in _maps(sentinels)
            ),
        )
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ProtocolError(
            f"{here} answers as no sentinel does ({type(error).__name__}: {error})"
        ) from None


def decide(answers: Iterable[Answer], present: Primary | None) -> Primary | None:
    """Where the primary is, by these answers; None if none of them is of use.

    One of an older epoch than ``present`` does not count. More than half of the others decide. If
    there is no such majority, the highest epoch does, which is that of who has heard of the last
    failover; and if that is the same, nothing changes.
    """
    votes = [
        Primary(answer.address, answer.epoch)
        for answer in answers
        if answer.address is not None
        and (present is None or answer.epoch < 0 or answer.epoch >= present.epoch)
    ]
    if not votes:
        return None
    epochs: dict[Address, list[int]] = {}
    for vote in votes:
        epochs.setdefault(vote.address, []).append(vote.epoch)
    half = len(votes) // 2
    least = -1 if present is None else present.epoch
    for address, told in epochs.items():
        if len(told) > half:
            # What more than half of all attest: one who exaggerates makes no epoch.
            return Primary(address, max(sorted(told, reverse=True)[half], least))
    stays = None if present is None else present.address
    best = max(votes, key=lambda vote: (vote.epoch, vote.address == stays))
    return Primary(best.address, max(best.epoch, least))


def backers(answers: Iterable[Answer], primary: Primary) -> int:
    """How many of them say that this is the primary."""
    return sum(answer.address == primary.address for answer in answers)


def system_size(answers: Collection[Answer], known: int) -> int:
    """How many sentinels there are, as most of them count: one who exaggerates changes nothing.

    Args:
        known: how many we could ask.
    """
    counts = sorted(1 + answer.others for answer in answers if answer.address is not None)
    return counts[len(counts) // 2] if counts else known


def _replica(told: Mapping[str, Any], via: AddressMap) -> Replica:
    flags = str(told.get("flags", "")).split(",")
    down = {"s_down", "o_down", "disconnected"}.intersection(flags)
    return Replica(
        _reached(told["ip"], told["port"], via),
        linked=not down and told.get("master-link-status") == "ok",
        offset=int(told.get("slave-repl-offset", 0)),
    )


def _reached(host: Any, port: Any, via: AddressMap) -> Address:
    announced = Address(str(host), int(port))
    return via.get(announced, announced)


def _identity(myid: Any, here: str) -> str:
    """Before Redis 6.2 there is no SENTINEL MYID."""
    return myid if isinstance(myid, str) else here


def _maps(told: Any) -> list[Mapping[str, Any]]:
    return [] if isinstance(told, Exception) else [_pairs(each) for each in told]


def _pairs(told: Any) -> Mapping[str, Any]:
    """A map of RESP3, or RESP2's field after field."""
    if isinstance(told, dict):
        return told
    return dict(zip(told[::2], told[1::2], strict=True))
