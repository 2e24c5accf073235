"""A timeline that is played does what its script says, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest

from redisutils import testing
from redisutils.testing import (
    At,
    Bandwidth,
    Blackhole,
    Call,
    Close,
    Cut,
    EmbeddedServer,
    Fault,
    FaultProxy,
    Fragment,
    Freeze,
    HalfClose,
    Kill,
    Latency,
    Outage,
    Refuse,
    Reset,
    Restart,
    ServerFault,
    Stall,
    Swallow,
    Timeline,
)

from . import ours
from .conftest import StartServer

# --- each fault begins and ends ---


class Peer:
    """A connection that was made before the fault, and what becomes of it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    def send(self, request: str) -> None:
        self._writer.write(request.encode())

    async def ping(self, patience: float = 5.0) -> str:
        """``"PONG"``, ``"closed"``, ``"reset"``, or ``"silent"`` after some seconds."""
        try:
            self.send("PING\r\n")
            async with asyncio.timeout(patience):
                while (line := await self._reader.readline()) == b"+OK\r\n":
                    pass  # the answer to AUTH
            return line.decode().strip("+\r\n") if line.endswith(b"\n") else "closed"
        except TimeoutError:
            return "silent"
        except ConnectionError:
            return "reset"

    async def close(self) -> None:
        self._writer.close()
        with suppress(ConnectionError):
            await self._writer.wait_closed()


@asynccontextmanager
async def peer_at(proxy: FaultProxy, server: EmbeddedServer) -> AsyncIterator[Peer]:
    peer = Peer(*await asyncio.open_connection(proxy.host, proxy.port))
    peer.send(f"AUTH {server.password}\r\n")
    try:
        yield peer
    finally:
        await peer.close()


async def knock(proxy: FaultProxy) -> str:
    try:
        _, writer = await asyncio.open_connection(proxy.host, proxy.port)
    except ConnectionRefusedError:
        return "refused"
    writer.close()
    await writer.wait_closed()
    return "accepted"


# What becomes of a PING on a connection that was open, and of a new connection; and whether
# that connection lives when the fault has ended.
SYMPTOMS: tuple[tuple[Fault, str, str, bool], ...] = (
    (Latency(0.01, jitter=0.01), "PONG", "accepted", True),
    (Bandwidth(500), "PONG", "accepted", True),
    (Fragment(1), "PONG", "accepted", True),
    (Cut(3), "closed", "accepted", False),
    (Cut(3, "reset", toward="client"), "reset", "accepted", False),
    (Cut(9), "PONG", "accepted", True),
    (Swallow(), "silent", "accepted", False),
    (Swallow(containing=b"SET"), "PONG", "accepted", True),
    (Swallow(containing=b"PING", then="reset"), "reset", "accepted", False),
    (Blackhole(), "silent", "accepted", False),
    (Stall(), "silent", "accepted", True),
    (Refuse(), "PONG", "refused", True),
    (Outage(), "reset", "refused", False),
    (Reset(), "reset", "accepted", False),
    (Close(), "closed", "accepted", False),
    (HalfClose(), "closed", "accepted", False),
    (HalfClose("server"), "closed", "accepted", False),
)


@pytest.mark.asyncio(loop_factories=["uvloop"])
@pytest.mark.parametrize(("fault", "symptom", "door", "lives"), SYMPTOMS, ids=str)
async def test_every_fault_begins_and_ends(
    proxy: FaultProxy, server: EmbeddedServer, fault: Fault, symptom: str, door: str, lives: bool
) -> None:
    timeline = Timeline([At(0, fault)], duration=60)
    before = state_of(proxy)
    async with peer_at(proxy, server) as peer:
        assert await peer.ping() == "PONG"
        async with timeline.on(proxy) as playing:
            assert playing.lasting == ((fault,) if fault.lasts else ())
            assert await peer.ping(0.03 if symptom == "silent" else 5.0) == symptom
            assert await knock(proxy) == door
        assert playing.over
        assert state_of(proxy) == before
        if lives:
            assert await peer.ping() == "PONG"
    async with peer_at(proxy, server) as peer:
        assert await peer.ping() == "PONG"


def state_of(proxy: FaultProxy) -> dict[str, object]:
    """Every setting, but for what counts."""
    return {
        f"{name}.{setting}": getattr(direction, setting)
        for name, direction in (("client", proxy.to_client), ("server", proxy.to_server))
        for setting in ("latency", "jitter", "bandwidth", "fragment", "_cut_after")
    }


def test_no_fault_is_without_a_symptom() -> None:
    offered = {getattr(testing, name) for name in testing.__all__}
    kinds = {kind for kind in offered if isinstance(kind, type) and issubclass(kind, Fault)}
    others = {Fault, Call, ServerFault, Freeze, Kill, Restart}
    assert {type(fault) for fault, *_ in SYMPTOMS} == kinds - others


async def test_the_end_of_a_fault_leaves_the_others_on(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    proxy.to_client.latency = 0.001
    proxy.to_server.fragment = 2
    seen: list[tuple[float, float, int | None]] = []

    def look(proxy: FaultProxy) -> None:
        seen.append((proxy.to_client.latency, proxy.to_server.latency, proxy.to_server.fragment))

    events = await Timeline(
        [
            At(0.0, Latency(0.005, toward="server"), 0.02),
            At(0.01, Stall(), 0.02),
            At(0.01, Call("look", look)),
            At(0.03, Call("look", look)),
        ]
    ).play(proxy)
    assert seen == [(0.001, 0.005, 2), (0.001, 0.0, 2)]
    assert [event.what for event in events].count("ends") == 2
    assert (proxy.to_client.latency, proxy.to_server.fragment) == (0.001, 2)
    async with peer_at(proxy, server) as peer:
        assert await peer.ping() == "PONG"


# --- servers ---


async def test_a_server_is_killed_and_started_frozen_and_restarted(
    start_server: StartServer,
) -> None:
    server = await start_server(appendonly=True)
    pids = [server.pid]
    async with ours.client_at(server) as client:
        await client.set("k", "v")
        async with Timeline([At(0, Kill(server))], duration=60).on() as playing:
            assert not server.running
        assert [event.what for event in playing.log] == ["begins", "ends"]
        pids.append(server.pid)
        async with Timeline([At(0, Freeze(server))], duration=60).on():
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.get("k"), 0.05)
        assert await client.get("k") == b"v"
        assert server.pid == pids[-1]
        await Timeline([At(0, Restart(server))]).play()
        pids.append(server.pid)
        assert await client.get("k") == b"v"
    assert len(set(pids)) == 3


async def test_a_server_that_somebody_has_started_already_is_left_running(
    proxy: FaultProxy, start_server: StartServer
) -> None:
    server = await start_server()
    up = Call("up", lambda _: server.start())
    await Timeline([At(0, Kill(server), 0.01), At(0.005, up)]).play(proxy)
    assert server.running


# --- errors, leaving, cancelling ---


def boom(proxy: FaultProxy) -> None:
    raise ZeroDivisionError("boom")


async def boom_later(proxy: FaultProxy) -> None:
    await asyncio.sleep(0)
    boom(proxy)


@pytest.mark.parametrize("action", [boom, boom_later])
async def test_a_step_that_fails_is_heard_and_the_rest_ends(
    proxy: FaultProxy, action: Callable[[FaultProxy], Awaitable[None] | None]
) -> None:
    later: list[FaultProxy] = []
    timeline = Timeline(
        [
            At(0, Latency(1)),
            At(0.01, Call("boom", action, later.append)),
            At(0.02, Call("later", later.append)),
        ],
        duration=60,
    )
    with pytest.raises(ZeroDivisionError) as caught:
        await timeline.play(proxy)
    (note,) = caught.value.__notes__
    assert "s after its start: Call(name='boom') begins" in note
    assert proxy.to_client.latency == 0.0
    assert later == [], "what has not begun is not ended, and nothing comes after a failure"


async def test_a_step_that_fails_at_the_start_lets_nobody_in(proxy: FaultProxy) -> None:
    tasks = asyncio.all_tasks()
    with pytest.raises(ZeroDivisionError):
        async with Timeline([At(0, Call("boom", boom))]).on(proxy):
            pytest.fail("entered")
    assert asyncio.all_tasks() == tasks


async def test_an_end_that_fails_keeps_no_other_from_ending(proxy: FaultProxy) -> None:
    order: list[str] = []
    steps = [
        At(0, Call("first", print_nothing, lambda _: order.append("first"))),
        At(0, Call("second", print_nothing, boom)),
        At(0, Call("third", print_nothing, lambda _: order.append("third"))),
    ]
    with pytest.raises(ZeroDivisionError) as caught:
        async with Timeline(steps, duration=60).on(proxy):
            pass
    assert order == ["third", "first"], "the latest first"
    assert "Call(name='second') ends" in caught.value.__notes__[0]


def print_nothing(proxy: FaultProxy) -> None:
    pass


async def test_the_block_s_own_error_comes_first(proxy: FaultProxy) -> None:
    timeline = Timeline([At(0, Stall()), At(0.001, Call("boom", boom))], duration=60)

    async def fail_after_it() -> None:
        async with timeline.on(proxy) as playing:
            with pytest.raises(ZeroDivisionError):
                await playing.wait()
            raise KeyError("mine")

    with pytest.raises(KeyError) as caught:
        await fail_after_it()
    assert caught.value.__notes__ == [
        "before, the timeline had failed with ZeroDivisionError('boom')"
    ]


LASTING: tuple[Fault, ...] = (
    Latency(0.01, jitter=0.01),
    Bandwidth(1e6),
    Fragment(3),
    Cut(40, "reset"),
    Swallow(),
    Blackhole(),
    Stall(),
    Outage(),
)


async def test_a_cancelled_timeline_leaves_nothing_behind(
    proxy: FaultProxy, server: EmbeddedServer
) -> None:
    tasks = asyncio.all_tasks()
    before = state_of(proxy)
    on = asyncio.Event()
    steps = [At(0, fault) for fault in LASTING]
    timeline = Timeline([*steps, At(0.001, Call("on", lambda _: on.set()))], duration=60)
    playing = asyncio.create_task(timeline.play(proxy))
    await on.wait()
    assert proxy.to_client.bandwidth == 1e6
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert asyncio.all_tasks() == tasks
    assert state_of(proxy) == before
    async with peer_at(proxy, server) as peer:
        assert await peer.ping() == "PONG"


@pytest.mark.parametrize("moment", [0, 0.001])
async def test_a_step_is_finished_before_a_cancelled_timeline_ends(
    proxy: FaultProxy, moment: float
) -> None:
    entered, go_on, done = asyncio.Event(), asyncio.Event(), list[str]()

    async def slowly(proxy: FaultProxy) -> None:
        entered.set()
        await go_on.wait()
        done.append("begun")

    step = At(moment, Call("slow", slowly, lambda _: done.append("ended")))
    playing = asyncio.create_task(Timeline([step], duration=60).play(proxy))
    await entered.wait()
    playing.cancel()
    await asyncio.sleep(0)
    assert not playing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert done == ["begun", "ended"]


@pytest.mark.parametrize("moment", [0, 0.001])
async def test_cancelled_over_and_over_it_ends_all_the_same(
    proxy: FaultProxy, moment: float
) -> None:
    entered, go_on = asyncio.Event(), asyncio.Event()
    before = state_of(proxy)

    async def slowly(proxy: FaultProxy) -> None:
        entered.set()
        await go_on.wait()

    steps = [At(0, Latency(0.01)), At(moment, Call("slow", slowly))]
    playing = asyncio.create_task(Timeline(steps, duration=60).play(proxy))
    await entered.wait()
    for _ in range(3):
        playing.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert not playing.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert state_of(proxy) == before


async def test_leaving_ends_the_timeline(proxy: FaultProxy) -> None:
    never: list[FaultProxy] = []
    timeline = Timeline([At(0, Stall()), At(50, Call("never", never.append))], duration=60)
    async with timeline.on(proxy) as playing:
        assert not playing.over
        assert repr(playing) == "<Playing playing events=1/2>"
    assert repr(playing) == "<Playing over events=2/2>"
    assert [event.what for event in playing.log] == ["begins", "ends"]
    assert not never
    with pytest.raises(RuntimeError, match="already"):
        await playing.__aenter__()
    with pytest.raises(RuntimeError, match="not played yet"):
        await timeline.on(proxy).wait()


async def test_it_can_be_played_twice(proxy: FaultProxy) -> None:
    timeline = Timeline([At(0, Stall(), 0.001), At(0.002, Reset())])
    once, again = await timeline.play(proxy), await timeline.play(proxy)
    assert [event.fault for event in once] == [event.fault for event in again]


# --- a client under fire ---


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_client_sees_what_is_scripted(proxy: FaultProxy, server: EmbeddedServer) -> None:
    slow = [Stall(), Latency(0.02, jitter=0.01), Fragment(1), Bandwidth(5000)]
    timeline = Timeline.random(
        3, duration=2.0, faults=[*slow, *[Reset(), Close()] * 2], every=(0.15, 0.3)
    )
    seen: list[str] = []
    pongs = 0
    async with timeline.on(proxy) as playing:
        while not playing.over:
            async with peer_at(proxy, server) as peer:
                answer = "PONG"
                while answer == "PONG" and not playing.over:
                    answer = await peer.ping()
                    pongs += answer == "PONG"
                if answer != "PONG":
                    seen.append(answer)
    endings = [step.fault for step in timeline.steps if not step.fault.lasts]
    assert 2 < len(endings) < len(timeline.steps)
    assert len(seen) == len(endings), f"{seen} in {timeline}"
    assert set(seen) <= {"reset", "closed"}
    assert pongs > 10
    planned = [(event.fault, event.what) for event in timeline.events]
    assert [(event.fault, event.what) for event in playing.log] == planned
    for plan, event in zip(timeline.events, playing.log, strict=True):
        assert event.moment >= plan.moment - 0.01, "never early, but for a clock's grain"
