"""``redisutils serve``: it starts whatever Redis does, shows itself to nobody by accident, and ends
when it is told to."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from importlib import import_module
from pathlib import Path
from time import monotonic, sleep
from urllib.parse import urlsplit

import pytest

from redisutils.testing import EmbeddedServer

pytest.importorskip("starlette", reason='needs the extra "monitor"')
pytest.importorskip("uvicorn", reason='needs the extra "monitor"')

from typer.testing import CliRunner

from redisutils.cli.app import app
from redisutils.cli.serve.hosting import Address, addresses, listen

TOKEN = "open-sesame-0123456789"
PATIENCE = 20.0


@pytest.fixture(autouse=True)
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A server that there is not, and a directory without .env."""
    for name in [name for name in os.environ if name.startswith(("REDIS_", "REDISUTILS_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("REDIS_PORT", "1")
    monkeypatch.chdir(tmp_path)


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", "-m", "redisutils", "serve", *arguments]


def refused(*arguments: str) -> tuple[int, str]:
    """Exit code and what was complained of. In this process: it never comes to serving."""
    done = CliRunner().invoke(app, ["serve", *arguments])
    assert done.stdout == ""
    assert isinstance(done.exception, SystemExit)
    return done.exit_code, done.stderr


@dataclass
class Served:
    """A running sidecar."""

    process: subprocess.Popen[str]
    line: str

    @property
    def url(self) -> str:
        return str(json.loads(self.line)["url"])

    def connect(self) -> HTTPConnection:
        return HTTPConnection(urlsplit(self.url).netloc, timeout=PATIENCE)

    def ask(self, path: str, **headers: str) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request("GET", path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def until(self, path: str, status: int) -> bytes:
        """What is answered as soon as it is answered with ``status``."""
        deadline = monotonic() + PATIENCE
        while (answer := self.ask(path))[0] != status:
            assert monotonic() < deadline, answer
            sleep(0.01)  # nobody tells us
        return answer[1]

    def end(self, number: int = signal.SIGTERM) -> tuple[int, str]:
        """Exit code and standard error."""
        self.process.send_signal(number)
        _, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, err


@contextmanager
def serving(*arguments: str) -> Iterator[Served]:
    with subprocess.Popen(
        command("--port", "0", "--json", *arguments),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            if not line:
                pytest.fail(process.communicate(timeout=PATIENCE)[1])
            yield Served(process, line)
        finally:
            process.kill()


def test_it_starts_without_redis_finds_it_and_ends_on_sigterm(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with EmbeddedServer() as server:
        monkeypatch.setenv("REDIS_PORT", str(server.port))
        monkeypatch.setenv("REDIS_PASSWORD", server.password)
        asyncio.run(server.kill())
        with serving("--drain", "0") as served:
            told = json.loads(served.line)
            assert told == {
                "url": served.url,
                "endpoint": f"localhost:{server.port}",
                "access": "loopback",
            }
            assert served.ask("/livez")[0] == 200
            assert served.ask("/livez", Host="evil.example")[0] == 421
            status, body = served.ask("/readyz")
            assert status == 503
            assert "does not answer" in json.loads(body)["reasons"][0]
            assert server.password not in body.decode()
            while json.loads(served.ask("/api/frame")[1])["health"]["status"] != "unhealthy":
                sleep(0.05)  # until the feed has come to it, and logged it
            assert json.loads(served.ask("/api/frame")[1])["sidecar"] is True
            asyncio.run(server.start())
            served.until("/readyz", 200)
            while not json.loads(served.ask("/api/frame")[1])["latency"]["count"]:
                sleep(0.05)  # its own PINGs: there are no other commands
            for path in ("/", "/healthz", "/metrics", "/api/frame"):
                assert served.ask(path)[0] == 200
            while json.loads(served.ask("/api/frame")[1])["health"]["status"] != "healthy":
                sleep(0.05)
            code, err = served.end()
    assert code == 0
    assert f"localhost:{server.port} is unhealthy: " in err
    assert f"localhost:{server.port} is healthy" in err
    assert err.endswith("redisutils serve: stopping on SIGTERM\n")
    assert "Traceback" not in err


def test_a_stop_is_graceful(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving("--drain", "1") as served:
        watching = served.connect()
        watching.request("GET", "/events")
        stream: HTTPResponse = watching.getresponse()
        assert stream.readline() == b"retry: 1000\n"
        served.process.send_signal(signal.SIGINT)
        body = served.until("/readyz", 503)
        while b"about to stop" not in body:  # not ready for want of Redis, before the signal
            body = served.until("/readyz", 503)
        assert served.ask("/livez")[0] == 200
        stream.read()  # to its proper end, or it would raise
        watching.close()
        _, err = served.process.communicate(timeout=PATIENCE)
        assert served.process.returncode == 0
        assert "SIGINT" in err


def test_a_second_signal_ends_it_at_once() -> None:
    with serving("--drain", "600") as served:
        served.process.send_signal(signal.SIGTERM)
        body = b""
        while b"about to stop" not in body:
            body = served.until("/readyz", 503)
        code, err = served.end()
    assert code == 128 + signal.SIGTERM
    assert "a second signal" in err


def test_a_second_signal_ends_it_at_once_though_nobody_hears_of_it() -> None:
    with serving("--drain", "600") as served:
        assert served.process.stderr is not None
        served.process.stderr.close()
        served.process.send_signal(signal.SIGTERM)
        while b"about to stop" not in served.until("/readyz", 503):
            pass
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(PATIENCE) == 128 + signal.SIGTERM


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_it_runs_with_its_standard_files_closed(closed: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    line = f'exec "$@" {closed}'
    started = ["sh", "-c", line, "sh", *command("--port", str(port), "--drain", "0")]
    with subprocess.Popen(started, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            deadline = monotonic() + PATIENCE
            connection = HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
            while True:
                try:
                    connection.request("GET", "/livez")
                    break
                except ConnectionRefusedError:
                    connection.close()
                    assert monotonic() < deadline
                    assert process.poll() is None
                    sleep(0.02)
            assert connection.getresponse().status == 200
            connection.close()
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()


def test_a_token_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    with serving("--token-file", "token", "--drain", "0") as served:
        assert json.loads(served.line)["access"] == "token"
        assert served.ask("/api/frame")[0] == 401
        assert served.ask("/api/frame", Authorization=f"Bearer {TOKEN}")[0] == 200
        # With a token any name will do: it is not the address that protects.
        assert served.ask("/livez", Host="monitor.example")[0] == 200
        assert TOKEN not in Path(f"/proc/{served.process.pid}/cmdline").read_text()
        code, err = served.end()
    assert (code, TOKEN in err) == (0, False)


def test_the_start_is_told_in_one_line_and_ctrl_c_ends_it() -> None:
    with subprocess.Popen(
        command("--port", "0", "--drain", "0"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=PATIENCE)
    assert line.startswith("redisutils serve: http://127.0.0.1:")
    assert line.endswith("/ shows localhost:1 to this machine only\n")
    assert (process.returncode, out) == (0, "")


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        code, err = refused("--port", str(port))
    assert code == 1
    assert err == (f"redisutils serve: cannot listen on 127.0.0.1:{port}: address already in use\n")


def test_it_is_not_exposed_by_accident(monkeypatch: pytest.MonkeyPatch) -> None:
    code, err = refused("--host", "0.0.0.0", "--port", "0")
    assert code == 2
    assert err.startswith("redisutils serve: --host 0.0.0.0 can be reached from other machines")
    for way in ("--token-file", "REDISUTILS_TOKEN", "--no-token"):
        assert way in err
    # Were it allowed, it could not be done: the address is nobody's.
    monkeypatch.setenv("REDISUTILS_TOKEN", TOKEN)
    code, err = refused("--host", "192.0.2.1", "--port", "0")
    assert code == 1
    assert "cannot listen on 192.0.2.1:0: cannot assign requested address" in err


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("127.0.0.1", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("fe80::1%eth0", False),
    ],
)
def test_what_others_can_reach_is_known(host: str, is_loopback: bool) -> None:
    assert Address(socket.AF_INET, host).is_loopback is is_loopback


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="there is no IPv6 here")
def test_every_address_is_every_address() -> None:
    (listening,) = listen(addresses("::"), 0)
    with listening:
        for host in ("127.0.0.1", "::1"):
            socket.create_connection((host, listening.getsockname()[1])).close()


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["--token-file", "absent"], 2, "--token-file absent: No such file or directory"),
        (["--token-file", "short"], 2, "--token-file short: the token has 5 characters"),
        (["--token-file", "empty"], 2, "--token-file empty: the token is empty"),
        (["--token-file", "binary"], 2, "--token-file binary: it is no text"),
        (["--token-file", "."], 2, "--token-file .: Is a directory"),
        (["--token-file", "good", "--no-token"], 2, "--no-token, but --token-file gives one"),
        (["--host", "a..b"], 1, "the host 'a..b' cannot be resolved"),
        (["--port", "70000"], 2, "--port"),
    ],
)
def test_wrong_options(tmp_path: Path, arguments: list[str], code: int, told: str) -> None:
    for name, content in {
        "short": b"short",
        "empty": b"\n",
        "binary": b"\xff\xfe",
        "good": TOKEN.encode(),
    }.items():
        (tmp_path / name).write_bytes(content)
    found, err = refused(*arguments)
    assert (found, told in err) == (code, True), err
    assert TOKEN not in err


def test_wrong_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PORT", "many")
    code, err = refused()
    assert code == 2
    assert "REDIS_PORT" in err


def test_a_misspelt_setting_is_told_in_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PASWORD", "hunter2")
    with serving("--drain", "0") as served:
        code, err = served.end()
    first, *_ = err.splitlines()
    told = "REDIS_PASWORD is no setting, and is ignored: did you mean REDIS_PASSWORD?"
    assert (code, first) == (0, f"redisutils serve: {told}")
    assert "Warning" not in err
    assert "hunter2" not in err


@pytest.mark.parametrize("module", ["starlette", "uvicorn"])
def test_missing_extras_are_named(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, err = refused()
    assert code == 2
    assert f"needs {module}, which is not installed" in err
    assert 'pip install "redisutils[monitor]"' in err


def test_the_application_names_its_extra_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "redisutils.monitor.app")
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install \"redisutils\[monitor\]\""):
        import_module("redisutils.monitor.app")


HOST = """
import uvicorn
from contextlib import asynccontextmanager
from starlette.applications import Starlette
from starlette.routing import Mount
from redisutils import create_redis_pool
from redisutils.monitor.app import monitor_app

pool = create_redis_pool()

@asynccontextmanager
async def lifespan(_):
    async with pool:
        print("up", flush=True)
        yield

app = Starlette(routes=[Mount("/redis", monitor_app(pool))], lifespan=lifespan)
uvicorn.run(app, port=PORT, log_level="error")
"""


def test_a_dashboard_that_is_open_does_not_keep_its_host_from_stopping() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with subprocess.Popen(
        [sys.executable, "-c", HOST.replace("PORT", str(port))],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            served = Served(process, json.dumps({"url": f"http://127.0.0.1:{port}/"}))
            deadline = monotonic() + PATIENCE
            while True:
                watching = served.connect()
                try:
                    watching.request("GET", "/redis/events")
                    break
                except ConnectionRefusedError:
                    assert monotonic() < deadline
                    assert process.poll() is None, process.communicate()[1]
                    sleep(0.02)
            stream = watching.getresponse()
            assert stream.readline() == b"retry: 1000\n"
            _, err = served.end()
            stream.read()
            watching.close()
        finally:
            process.kill()
    assert "Traceback" not in err
