"""A private server when what it stands on is broken: one clear error, and nothing is left."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from pathlib import Path

import pytest

from redisutils.connection import embedded, ports, supervision
from redisutils.connection.embedded import ServerProcess, embedded_binary, free_port, start_embedded
from redisutils.errors import ConfigError, ConnectFailed, ConnectTimeout

from .servers import ending, gone, needs_pidfd, parent_of, running

# All of it is in threads and processes: on one loop it proves as much as on two.
pytestmark = pytest.mark.asyncio(loop_factories=["asyncio"])

HANGS_UP = f"""#!{sys.executable} -IS
import socket
listener = socket.socket(socket.AF_UNIX)
listener.bind("redis.sock")
listener.listen()
while True:
    client, _ = listener.accept()
    client.recv(4096)
    client.close()
"""


def place(server: ServerProcess) -> tuple[int, int, Path]:
    """The numbers of the supervisor and the server, and the directory."""
    assert server.pid is not None
    assert server.directory is not None
    return parent_of(server.pid), server.pid, server.directory


async def test_windows_is_told_to_name_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "platform", "win32")
        with pytest.raises(ConfigError, match="on Windows name a server instead"):
            embedded_binary()


async def test_an_interpreter_that_cannot_be_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a program that is frozen, or embedded in another."""
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    with pytest.raises(ConfigError, match=r"sys\.executable='/nowhere/python' cannot be run"):
        await start_embedded()


async def test_no_port_is_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((ServerProcess.host, 0)) as occupied:
        tried = []

        def occupied_port() -> int:
            tried.append(port := int(occupied.getsockname()[1]))
            return port

        monkeypatch.setattr(embedded, "free_port", occupied_port)
        with pytest.raises(ConnectFailed, match="Address already in use"):
            await start_embedded(tcp=True)
    assert 1 < len(tried) < 30


async def test_a_server_that_hangs_up_on_everybody_is_not_taken_for_started(tmp_path: Path) -> None:
    program = tmp_path / "rude-server"
    program.write_text(HANGS_UP)
    program.chmod(0o700)
    with pytest.raises(ConnectTimeout, match=r"rude-server did not answer within 0\.5 s"):
        await ServerProcess(program, startup_timeout=0.5).start()


async def test_a_log_that_somebody_has_removed() -> None:
    async with ServerProcess(embedded_binary()) as server:
        _, _, directory = place(server)
        assert "Ready to accept connections" in server.log()
        (directory / "server.log").unlink()
        assert server.log() == ""
    assert server.log() == ""


@needs_pidfd
async def test_a_supervisor_that_stands_still_is_waited_for_only_so_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = await start_embedded()
    supervisor, pid, directory = place(server)
    os.kill(supervisor, signal.SIGSTOP)
    monkeypatch.setattr(supervision, "_PATIENCE", 0.05)
    with pytest.raises(ConnectTimeout, match="does not answer"):
        server.signal(signal.SIGCONT)
    # It dies with our request unread, which the system reports to us in another way.
    with ending(supervisor, pid):
        os.kill(supervisor, signal.SIGKILL)
        with pytest.raises(ConnectFailed, match="supervisor has gone"):
            server.signal(signal.SIGCONT)
    assert gone(directory)
    await server.stop()


@needs_pidfd
@pytest.mark.parametrize("heard", [True, False])
async def test_the_supervisor_dies_after_its_server(heard: bool) -> None:
    server = await start_embedded()
    supervisor, pid, directory = place(server)
    if heard:
        server.terminate()
        assert not server.running
    else:
        os.kill(supervisor, signal.SIGSTOP)
        with ending(pid):
            os.kill(pid, signal.SIGKILL)
    assert not gone(directory)
    with ending(supervisor):
        os.kill(supervisor, signal.SIGKILL)
    assert not server.running
    assert gone(directory)
    await server.stop()


@needs_pidfd
async def test_the_supervisor_dies_while_the_server_is_being_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = await start_embedded()
    supervisor, pid, directory = place(server)
    os.kill(supervisor, signal.SIGSTOP)
    monkeypatch.setattr(supervision, "_PATIENCE", 0.05)
    with ending(supervisor, pid):
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.1)  # it has been asked for the signal, in vain
        os.kill(supervisor, signal.SIGKILL)
        await stopping
    assert gone(directory)


@needs_pidfd
async def test_a_supervisor_that_does_not_go_is_killed_with_its_server(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    server = await start_embedded()
    supervisor, pid, directory = place(server)
    os.kill(supervisor, signal.SIGSTOP)
    monkeypatch.setattr(supervision, "_PATIENCE", 0.05)
    monkeypatch.setattr(supervision, "_END_PATIENCE", 0.05)
    with ending(supervisor, pid):
        await server.stop()
    assert gone(directory)


async def test_a_server_that_takes_too_long_to_end_is_killed() -> None:
    server = ServerProcess(embedded_binary(), config={"enable-debug-command": "local"})
    await server.start()
    _, pid, directory = place(server)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(server.unix_socket)
        client.sendall(f"AUTH {server.password}\r\n".encode())
        assert client.recv(5) == b"+OK\r\n"
        client.sendall(b"DEBUG SLEEP 30\r\n")
        await server.stop(grace=0.05)
    assert not running(pid)
    assert gone(directory)


@pytest.mark.parametrize("turns", [1, 3])
async def test_a_stop_that_is_cancelled_over_and_over_is_finished_all_the_same(turns: int) -> None:
    server = await start_embedded()
    _, pid, directory = place(server)
    stopping = asyncio.create_task(server.stop())
    for _ in range(turns):
        await asyncio.sleep(0)
        stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert not running(pid)
    assert gone(directory)


async def test_what_is_asked_of_a_server_that_was_never_started() -> None:
    server = ServerProcess(embedded_binary())
    for ask in (lambda: server.unix_socket, lambda: server.signal(signal.SIGCONT)):
        with pytest.raises(ConnectFailed, match="not running"):
            ask()
    with pytest.raises(ConfigError, match="no TLS port"):
        _ = server.tls_url
    assert (server.log(), server.running) == ("", False)
    await server.stop()


async def test_a_signal_of_no_consequence() -> None:
    async with ServerProcess(embedded_binary()) as server:
        server.signal(signal.SIGWINCH)
        assert server.running
        assert not server.paused


async def test_all_ports_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server((ServerProcess.host, 0)) as occupied:
        port = occupied.getsockname()[1]
        with monkeypatch.context() as patch:
            patch.setattr(ports, "_PORTS", [port] * 200)
            with pytest.raises(ConnectFailed, match="no free port"):
                free_port()
