"""A timeline is data: the same for the same seed, told whole by its text, refused if senseless."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from redisutils.errors import ConfigError
from redisutils.testing import (
    At,
    Bandwidth,
    Blackhole,
    Call,
    Close,
    Cut,
    EmbeddedServer,
    Fault,
    Fragment,
    Freeze,
    HalfClose,
    Kill,
    Latency,
    Outage,
    Refuse,
    Reset,
    Restart,
    Stall,
    Swallow,
    Timeline,
)

STATES = (Swallow(), Blackhole(), Stall(), Refuse(), Outage())
SETTINGS = (Latency(0.01, jitter=0.01), Bandwidth(1e6), Fragment(3), Cut(40, "reset"))
EVENTS = (Reset(), Close(), HalfClose(), HalfClose("server"))
FAULTS: tuple[Fault, ...] = STATES + SETTINGS + EVENTS


def drawn(seed: int | None, **options: Any) -> Timeline:
    return Timeline.random(seed, **{"duration": 30.0, "faults": FAULTS, **options})


# --- the script ---


def test_the_same_seed_draws_the_same_script() -> None:
    assert drawn(7) == drawn(7)
    assert str(drawn(7)) == str(drawn(7))
    assert drawn(7).steps != drawn(8).steps


def test_a_seed_means_the_same_on_every_machine() -> None:
    timeline = Timeline.random(7, duration=1.5, faults=[Reset(), Stall(), Latency(0.01)])
    assert str(timeline).splitlines() == [
        "timeline of 1.500 s, seed 7:",
        "   0.230 s  Reset()",
        "   0.359 s  Stall() for 0.141 s",
        "   0.755 s  Reset()",
        "   1.025 s  Latency(seconds=0.01) for 0.081 s",
        "   1.214 s  Stall() for 0.286 s",
    ]


def test_a_script_drawn_without_a_seed_tells_its_seed() -> None:
    timeline = drawn(None)
    assert timeline.seed is not None
    assert f"seed {timeline.seed}:" in str(timeline)
    assert drawn(timeline.seed) == timeline


def test_a_function_draws_from_the_same_generator() -> None:
    def cut(random: Random) -> Fault:
        return Cut(int(random.random() * 1000))

    timeline = drawn(7, faults=[cut])
    assert timeline == drawn(7, faults=[cut])
    assert len({step.fault for step in timeline.steps}) > 10


def test_what_is_drawn_ends_with_a_duration_of_any_precision() -> None:
    steps = drawn(1, duration=1.23456, faults=[Stall()], lasting=(2.0, 2.0)).steps
    assert [step.until for step in steps] == [1.235]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_drawn_keeps_to_its_limits(seed: int) -> None:
    timeline = drawn(seed, every=(0.01, 0.1), lasting=(0.2, 0.4))
    assert {type(step.fault) for step in timeline.steps} == {type(fault) for fault in FAULTS}
    moments = [step.moment for step in timeline.steps]
    assert moments == sorted(moments)
    held: dict[str, float] = {}
    for step in timeline.steps:
        assert step.until is not None
        assert step.until <= 30.0
        assert (step.lasting is not None) == step.fault.lasts
        assert step.lasting is None or 0.2 <= step.lasting <= 0.4 or step.until == 30.0
        for claim in step.fault.claims:
            assert held.get(claim, 0.0) <= step.moment, f"{claim} overlaps in:\n{timeline}"
            held[claim] = step.until


def test_the_text_is_the_whole_script(server: EmbeddedServer) -> None:
    timeline = Timeline(
        [
            At(2, Call("load", lambda proxy: None, lambda proxy: None), lasting=0.25),
            At(1.5, Kill(server, "primary"), lasting=0.3),
            At(0.0, Latency(0.01, toward="client")),
            At(0.5, Reset()),
        ],
        duration=3.0,
    )
    assert str(timeline).splitlines() == [
        "timeline of 3.000 s:",
        "   0.000 s  Latency(seconds=0.01, toward='client') to the end",
        "   0.500 s  Reset()",
        "   1.500 s  Kill(primary) for 0.300 s",
        "   2.000 s  Call(name='load') for 0.250 s",
    ]


def test_ends_come_before_beginnings_and_nothing_ends_before_it_began() -> None:
    first, second, third = Latency(1), Latency(2), Latency(3)
    timeline = Timeline([At(0.3, third, 0), At(0.1, first, lasting=0.2), At(0.3, second, 0)])
    assert [(event.moment, event.fault, event.what) for event in timeline.events] == [
        (0.1, first, "begins"),
        (0.3, first, "ends"),
        (0.3, third, "begins"),
        (0.3, third, "ends"),
        (0.3, second, "begins"),
        (0.3, second, "ends"),
    ]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Latency(1), Latency(2, toward="client")),
        (Cut(1, toward="server"), Cut(2, toward="server")),
        (Refuse(), Outage()),
        (Stall(), Stall()),
        (Call("load", print, print), Call("load", print)),
    ],
)
@pytest.mark.parametrize("lasting", [0.5, None])
def test_what_claims_the_same_must_not_overlap(
    one: Fault, other: Fault, lasting: float | None
) -> None:
    period = 0.1 if other.lasts else None
    with pytest.raises(ConfigError, match=r"=1\.4, .* must begin after the end of .*=1\.0, "):
        Timeline([At(1.4, other, period), At(1.0, one, lasting)], 9.0)
    assert len(Timeline([At(1.5, other, period), At(1.0, one, 0.5)]).steps) == 2


def test_a_server_has_one_fault_at_a_time(server: EmbeddedServer) -> None:
    with pytest.raises(ConfigError, match="must begin after the end of"):
        Timeline([At(0, Freeze(server), 1.0), At(0.5, Restart(server))])
    other = EmbeddedServer(server.process.binary)
    assert Timeline([At(0, Freeze(server), 1.0), At(0.5, Restart(other))]).steps


def test_different_kinds_may_overlap() -> None:
    faults = (Latency(1, toward="client"), Latency(2, toward="server"), Cut(1), Swallow(), Stall())
    steps = [At(0.1, fault, 1.0) for fault in faults]
    assert Timeline(steps).steps == tuple(steps)


WRONG: dict[str, Callable[[], object]] = {
    "moment=-1 must be a number of seconds, 0 or more": lambda: At(-1, Reset()),
    "moment='1' must be": lambda: At(untyped("1"), Reset()),
    "moment=nan must be": lambda: At(float("nan"), Reset()),
    "lasting=-0.1 must be a number of seconds": lambda: At(1, Stall(), -0.1),
    "lasting=1 must be left out: Reset() is over": lambda: At(1, Reset(), 1),
    "must be a fault, such as Reset()": lambda: At(1, untyped(Reset)),
    "a function goes into Call('name', function)": lambda: At(1, untyped(lambda proxy: None)),
    "steps=Reset() must be steps, such as [At(": lambda: Timeline([untyped(Reset())]),
    "must be steps, such as [At(": lambda: Timeline(untyped(At(0, Reset()))),
    "faults=Reset() must be faults, such as [": lambda: drawn(1, faults=Reset()),
    "duration=1 must not be before the end of": lambda: Timeline([At(0.5, Stall(), 0.6)], 1),
    "duration=-1 must be a number": lambda: Timeline([], -1),
    "must end: give lasting, or the timeline's duration": lambda: Timeline([At(1, Stall())]),
    "seconds=-1 must be": lambda: Latency(-1),
    "jitter=True must be": lambda: Latency(1, jitter=True),
    "rate=0 must be a number of bytes per second greater than 0": lambda: Bandwidth(0),
    "rate=None must be": lambda: Bandwidth(untyped(None)),
    "size=0 must be a whole number, 1 or more": lambda: Fragment(0),
    "after=-1 must be a whole number, 0 or more": lambda: Cut(-1),
    "ending='bang' must be one of close, reset": lambda: Cut(1, untyped("bang")),
    "toward='me' must be one of client, server, both": lambda: Latency(1, toward=untyped("me")),
    "toward='both' must be one of client, server": lambda: HalfClose(untyped("both")),
    "count=0 must be a whole number, 1 or more, or None": lambda: Swallow(0),
    "containing='x' must be bytes, or None": lambda: Swallow(containing=untyped("x")),
    "then='bang' must be one of silence, close, reset": lambda: Swallow(then=untyped("bang")),
    "server='localhost' must be an EmbeddedServer": lambda: Kill(untyped("localhost")),
    "name=1 must be a str": lambda: Call(untyped(1), print),
    "at_begin=1 must be a function": lambda: Call("x", untyped(1)),
    "at_end=1 must be a function": lambda: Call("x", print, untyped(1)),
    "seed=1.5 must be a whole number, 0 or more": lambda: drawn(untyped(1.5)),
    "faults=() must hold one fault or more": lambda: drawn(1, faults=[]),
    "faults=1 must be a fault, such as": lambda: drawn(1, faults=[1]),
    "faults=7 must be a fault, such as": lambda: drawn(1, faults=[lambda random: 7]),
    "every=(0, 0) must be more than 0 seconds": lambda: drawn(1, every=(0, 0)),
    "every=0.5 must be a pair of seconds": lambda: drawn(1, every=0.5),
    "lasting=(2, 1) must have the least before the most": lambda: drawn(1, lasting=(2, 1)),
    "lasting=-1 must be a number of seconds": lambda: drawn(1, lasting=(-1, 1)),
    "proxy=None must be a FaultProxy, for Reset()": lambda: Timeline([At(1, Reset())]).on(),
}


def untyped(value: object) -> Any:
    """What a type checker would have refused."""
    return value


@pytest.mark.parametrize("message", WRONG)
def test_what_makes_no_sense_is_told_at_once(message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        WRONG[message]()
