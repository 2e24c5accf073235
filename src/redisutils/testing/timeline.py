"""Scripts of faults on a timeline, written down or drawn from a seed.

A timeline is data: it can be compared, printed for a bug report, and played as often as you like.
How it is played: ``_playing.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from random import Random, SystemRandom
from types import NoneType
from typing import Any, TypeAlias

from ._checks import check_count, check_kind, check_seconds, refuse
from ._playing import Event, Playing
from .faults import Fault
from .proxy import FaultProxy
from .server_faults import ServerFault

__all__ = ["At", "Event", "Playing", "Timeline"]

Draw: TypeAlias = Callable[[Random], Fault]
Range: TypeAlias = tuple[float, float]

# Times are drawn in milliseconds, so that a timeline's text is the whole of it; sums of written
# times are rounded to nanoseconds, so that 0.1 s + 0.2 s end where 0.3 s begin.
_DRAWN_DIGITS = 3
_DIGITS = 9


@dataclass(frozen=True)
class At:
    """One step of a timeline: ``At(1.5, Stall(), lasting=0.2)``.

    :param moment: seconds after the timeline's start.
    :param fault: what begins then.
    :param lasting: seconds until it ends; None (the default) lasts as long as the timeline. To be
        left out for what is over as soon as it has happened, such as Reset.
    :raises ConfigError: for times below 0, or what is no fault.
    """

    moment: float
    fault: Fault
    lasting: float | None = None

    def __post_init__(self) -> None:
        check_seconds("moment", self.moment)
        _check_fault("fault", self.fault)
        if self.lasting is None:
            return
        check_seconds("lasting", self.lasting)
        if not self.fault.lasts:
            over = f"{self.fault} is over as soon as it has happened"
            refuse("lasting", self.lasting, f"must be left out: {over}")

    @property
    def until(self) -> float | None:
        """Seconds from the timeline's start to the fault's end; None for the timeline's own."""
        if not self.fault.lasts:
            return self.moment
        return None if self.lasting is None else round(self.moment + self.lasting, _DIGITS)

    def __str__(self) -> str:
        if not self.fault.lasts:
            period = ""
        elif self.lasting is None:
            period = " to the end"
        else:
            period = f" for {self.lasting:.3f} s"
        return f"{self.moment:8.3f} s  {self.fault}{period}"


@dataclass(frozen=True)
class Timeline:
    """A script of faults, to be played on a proxy.

    ::

        timeline = Timeline([
            At(0.0, Latency(0.01, jitter=0.02)),
            At(0.5, Reset()),
            At(1.0, Swallow(containing=b"INCR", then="reset"), lasting=0.2),
            At(1.5, Kill(server), lasting=0.3),
        ], duration=3.0)
        print(timeline)
        async with timeline.on(proxy) as playing:
            ...  # your load; leaving ends the timeline, and all that it has begun
        await timeline.play(proxy)  # or: until it is over

    At one moment the end of a fault comes before what begins. While a fault lasts, no other that
    claims the same may begin; all others may. What no fault claims stays as it was on the proxy.

    :param steps: in any order; kept in that of their moments.
    :param duration: seconds after which it is over, and every fault ends that still lasts; None
        (the default) for the end of the last step.
    :param seed: what the script was drawn from, if it was: see :meth:`random`.
    :raises ConfigError: when steps are in each other's way, one comes after the end or never
        ends, or something is no step.
    """

    steps: Sequence[At]
    duration: float | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        steps = _steps(self.steps)
        object.__setattr__(self, "steps", steps)
        if self.duration is not None:
            check_seconds("duration", self.duration)
        self._check_ends()
        held: dict[str, At] = {}
        for step in steps:
            earlier = _claim(held, step)
            if earlier is not None:
                claimed = ", ".join(sorted(earlier.fault.claims & step.fault.claims))
                refuse("steps", step, f"must begin after the end of {earlier!r} ({claimed})")

    @classmethod
    def random(
        cls,
        seed: int | None = None,
        *,
        duration: float,
        faults: Iterable[Fault | Draw],
        every: Range = (0.1, 0.5),
        lasting: Range = (0.05, 0.3),
    ) -> Timeline:
        """Draw a script: the same for the same seed and arguments, on every machine.

        What is drawn while another fault lasts that claims the same is left out.

        :param seed: a whole number; None (the default) draws one, which the text shows.
        :param duration: seconds; every fault has ended by then.
        :param faults: what to draw from, evenly; name one twice and it comes twice as often. A
            function is given the generator and returns a fault:
            ``lambda random: Cut(int(random.random() * 100))``.
        :param every: least and most seconds from one beginning to the next, default 0.1 to 0.5.
        :param lasting: least and most seconds that one lasts, if it does, default 0.05 to 0.3.
        :raises ConfigError: for an argument that makes no sense.
        """
        check_count("seed", seed, 0)
        check_seconds("duration", duration)
        _check_range("every", every)
        _check_range("lasting", lasting)
        if every[1] <= 0:
            refuse("every", every, "must be more than 0 seconds at most")
        choice = _choice(faults)
        if seed is None:
            seed = SystemRandom().randrange(2**32)
        duration = round(duration, _DRAWN_DIGITS)
        held: dict[str, At] = {}
        drawn = _draw(Random(seed), duration, choice, every, lasting)
        return cls([step for step in drawn if _claim(held, step) is None], duration, seed)

    @property
    def events(self) -> tuple[Event, ...]:
        """All that is to happen, in order; the faults that last to the end are not said to end."""
        planned: list[Event] = []
        for step in self.steps:
            planned.append(Event(step.moment, step.fault, "begins"))
            if step.fault.lasts and step.until is not None:
                planned.append(Event(step.until, step.fault, "ends"))
        # Stable: what is over at a moment began before, and so stands before what begins then.
        return tuple(sorted(planned, key=lambda event: event.moment))

    def on(self, proxy: FaultProxy | None = None) -> Playing:
        """Play it while a block runs: ``async with timeline.on(proxy) as playing``. What begins at
        0 has begun when the block is entered.

        Leaving the block ends the timeline, and with it each fault that still lasts; a step that
        is under way, such as the start of a server, is waited for. A step that fails ends it too:
        what was raised is raised again when the block is left (or not even entered, for a step at
        0), and by ``playing.wait()``, which waits until the timeline is over.

        :param proxy: None (the default) will do when all faults are servers'.
        :raises ConfigError: when they are not, or it is no proxy. A proxy that does not run is a
            RuntimeError as soon as it is to do something.
        """
        check_kind("proxy", proxy, (FaultProxy, NoneType), "a FaultProxy or None")
        if proxy is None:
            for step in self.steps:
                if not isinstance(step.fault, ServerFault):
                    refuse("proxy", proxy, f"must be a FaultProxy, for {step.fault}")
        return Playing(self.events, self._end, proxy)

    async def play(self, proxy: FaultProxy | None = None) -> tuple[Event, ...]:
        """Play it to its end; what has happened, and when it really did. Cancelling ends each
        fault that still lasts.

        :param proxy: as for :meth:`on`.
        :raises Exception: whatever a step raises, with a note that says which.
        """
        async with self.on(proxy) as playing:
            await playing.wait()
        return playing.log

    @property
    def _end(self) -> float:
        if self.duration is not None:
            return self.duration
        return max((step.until or step.moment for step in self.steps), default=0.0)

    def _check_ends(self) -> None:
        for step in self.steps:
            if step.until is None and step.moment >= self._end:
                refuse("steps", step, "must end: give lasting, or the timeline's duration")
            if (step.until or step.moment) > self._end:
                refuse("duration", self.duration, f"must not be before the end of {step!r}")

    def __str__(self) -> str:
        drawn = "" if self.seed is None else f", seed {self.seed}"
        return "\n".join([f"timeline of {self._end:.3f} s{drawn}:", *map(str, self.steps)])


def _steps(steps: Any) -> tuple[At, ...]:
    expected = "must be steps, such as [At(0.5, Reset())]"
    if not isinstance(steps, Iterable):
        refuse("steps", steps, expected)
    for step in (found := tuple(steps)):
        if not isinstance(step, At):
            refuse("steps", step, expected)
    return tuple(sorted(found, key=lambda step: step.moment))


def _choice(faults: Any) -> tuple[Fault | Draw, ...]:
    if not isinstance(faults, Iterable):
        refuse("faults", faults, "must be faults, such as [Reset(), Stall()]")
    found = tuple(faults)
    if not found:
        refuse("faults", found, "must hold one fault or more")
    for fault in found:
        if isinstance(fault, type) or not callable(fault):
            _check_fault("faults", fault)
    return found


def _draw(
    generator: Random,
    duration: float,
    choice: Sequence[Fault | Draw],
    every: Range,
    lasting: Range,
) -> Iterator[At]:
    """Steps in order, of which some may be in each other's way."""
    moment = 0.0
    while True:
        moment += _within(generator, every)
        at = round(moment, _DRAWN_DIGITS)
        if at >= duration:
            return
        # Only random() is promised to draw the same numbers in every version of Python.
        drawn = choice[int(generator.random() * len(choice))]
        fault = drawn if isinstance(drawn, Fault) else drawn(generator)
        _check_fault("faults", fault)
        time = round(min(_within(generator, lasting), duration - at), _DRAWN_DIGITS)
        yield At(at, fault, time if fault.lasts else None)


def _claim(held: dict[str, At], step: At) -> At | None:
    """Let ``step`` hold what it claims, if no earlier step still does; else which one does."""
    for claim in sorted(step.fault.claims):
        earlier = held.get(claim)
        if earlier and (earlier.until is None or earlier.until > step.moment):
            return earlier
    held.update(dict.fromkeys(step.fault.claims, step))
    return None


def _within(generator: Random, limits: Range) -> float:
    return limits[0] + generator.random() * (limits[1] - limits[0])


def _check_range(name: str, limits: Any) -> None:
    if not isinstance(limits, tuple) or len(limits) != 2:
        refuse(name, limits, "must be a pair of seconds: the least and the most")
    for seconds in limits:
        check_seconds(name, seconds)
    if limits[0] > limits[1]:
        refuse(name, limits, "must have the least before the most")


def _check_fault(name: str, fault: Any) -> None:
    if isinstance(fault, Fault):
        return
    expected = "must be a fault, such as Reset()"
    if callable(fault) and not isinstance(fault, type):
        expected += "; a function goes into Call('name', function)"
    refuse(name, fault, expected)
