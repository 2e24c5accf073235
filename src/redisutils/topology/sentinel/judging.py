"""What sentinels and replicas come to in a report on health."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from redisutils.connection.words import of_each
from redisutils.topology.health import EndpointHealth, HealthReport
from redisutils.topology.reasons import Reason
from redisutils.topology.sentinel.answers import Replica, Survey

__all__ = ["with_sentinels"]


def with_sentinels(
    report: HealthReport, master: str, survey: Survey, held: bool = False
) -> HealthReport:
    """The report on a primary, with what is known of its sentinels and replicas.

    Args:
        master: its name.
        held: whether nobody was let through to it as it was looked at, or is now: then it says
            nothing that it did not answer.
    """
    known = [each for each in report.reasons if not (held and each.code == "unreachable")]
    added = tuple(_wrong(master, survey))
    reasons = sorted((*known, *added), key=lambda reason: reason.severity != "unhealthy")
    endpoints = report.endpoints
    if survey.primary is not None:
        place = f"{master} ({survey.primary.address})"
        endpoints = tuple(replace(each, endpoint=place, told_role="primary") for each in endpoints)
    endpoints += tuple(_endpoint(each, survey.replicas) for each in survey.replicas)
    return replace(
        report,
        status=reasons[0].severity if reasons else "healthy",
        reasons=tuple(reasons),
        endpoints=endpoints,
        notes=(*report.notes, *_notes(survey)),
    )


def _wrong(master: str, survey: Survey) -> Iterator[Reason]:
    if survey.suspicion is not None:
        yield Reason(
            f"{master} may be moving: {survey.suspicion}; nothing is written until that is known, "
            "for some seconds at most",
            "failover",
        )
    answering, size = len(survey.answers), survey.size
    if 2 * answering <= size:
        yield Reason(
            f"{answering} of {size} sentinels of {master} answer: with less than a majority there "
            f"is no failover, or none that is noticed here; {of_each(survey.troubles)}",
            "sentinels",
        )
    elif survey.quorum is not None and answering < survey.quorum:
        yield Reason(
            f"{answering} of {size} sentinels of {master} answer, fewer than the quorum of "
            f"{survey.quorum} that must see it down: perhaps there is no failover; "
            f"{of_each(survey.troubles)}",
            "sentinels",
        )
    named = sorted({str(answer.address or "nothing") for _, answer in survey.answers})
    if len(named) > 1:
        told = "; ".join(
            f"{name} says {answer.address or 'that it knows none'} (epoch {answer.epoch})"
            for name, answer in survey.answers
        )
        yield Reason(
            f"the sentinels of {master} disagree where it is: {told}; during a failover that is "
            "over in seconds, and otherwise one of them is cut off or set up wrong",
            "sentinels-disagree",
        )
    if survey.primary is not None and not any(each.linked for each in survey.replicas):
        yield Reason(
            f"{master} has no replica that could take its place: none of the {len(survey.replicas)}"
            " that its sentinels know is up with a link to it",
            "no-replica",
        )


def _notes(survey: Survey) -> Iterator[str]:
    if survey.troubles:
        yield of_each(survey.troubles)
    for replica in survey.replicas:
        if not replica.linked:
            yield f"the replica {replica.address} is down, or has no link to the primary"


def _endpoint(replica: Replica, all_of_them: tuple[Replica, ...]) -> EndpointHealth:
    ahead = max(each.offset for each in all_of_them)
    return EndpointHealth(
        endpoint=str(replica.address),
        reachable=replica.linked,
        round_trip=None,
        server=None,
        told_role="replica",
        bytes_behind=ahead - replica.offset,
    )
