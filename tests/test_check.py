"""``redisutils check``: silent about what is well; its settings, its output, its exit codes."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

import redisutils
from redisutils.cli.app import app
from redisutils.cli.check.finding import Finding
from redisutils.cli.check.report import Report
from redisutils.cli.check.view import LiveView
from redisutils.testing import (
    EmbeddedServer,
)

from .canary import NEEDLE
from .checkup import ASIDE, ONE_LOOP, PASSWORD, WELL, at, checked, free_port
from .conftest import StartServer
from .servers import client_of
from .surroundings import clear

SOURCE = Path(redisutils.__file__).parent.parent  # also where the package is not installed


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear(monkeypatch, tmp_path)


async def test_a_healthy_server_has_no_warnings(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(password=PASSWORD, config=WELL)
    at(monkeypatch, server)
    found = await checked()
    assert found.errors == []
    assert found.warnings(*ASIDE) == []
    assert found.report.exit_code(strict=False) == 0
    steps = list(dict.fromkeys(one.step for one in found.report.findings))
    assert steps == [
        "configuration",
        "name",
        "port",
        "login",
        "server",
        "rights",
        "memory",
        "persistence",
        "clients",
        "replication",
        "slowlog",
        "latency",
        "clock",
        "process",
    ]
    [login] = found.all("login", "ok")
    assert login.facts["user"] == "default"
    assert login.facts["protocol"] == 3
    [latency, _] = found.all("latency", "ok", "warning", "note")
    assert latency.facts["pings"] == 200 or latency.facts["max"] > 0.005
    assert set(latency.facts["split"]) == {"wait", "queue", "wire", "loop", "parse"}
    [clock] = found.all("clock", "ok")
    assert abs(clock.facts["ahead"]) < 0.1


@ONE_LOOP
async def test_no_key_is_touched_and_nothing_changed(
    start_server: StartServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = await start_server(password=PASSWORD, config=WELL)
    at(monkeypatch, server)
    with client_of(server.url) as admin:
        admin.set("k", "v")
        admin.object("idletime", "k")
        before = admin.config_get("*"), admin.info("keyspace"), admin.acl_list()
        stats = admin.info("stats")
        admin.config_resetstat()
        await checked()
        assert (admin.config_get("*"), admin.info("keyspace"), admin.acl_list()) == before
        stats = admin.info("stats")
        assert (stats["keyspace_hits"], stats["keyspace_misses"]) == (0, 0)
        assert admin.info("persistence")["rdb_changes_since_last_save"] == 1
        calls = set(admin.info("commandstats"))
        assert not calls & {"cmdstat_set", "cmdstat_get", "cmdstat_config|set", "cmdstat_eval"}


@ONE_LOOP
async def test_a_unix_socket_and_a_private_server(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REDIS_URL", f"unix://{server.unix_socket}")
    monkeypatch.setenv("REDIS_PASSWORD", server.password)
    found = await checked()
    assert found.errors == []
    assert not {"port", "tls"} & {one.step for one in found.report.findings}
    monkeypatch.delenv("REDIS_PASSWORD")
    monkeypatch.setenv("REDIS_URL", f"unix://{tmp_path}/absent.sock")
    found = await checked()
    assert found.error.step == "name"
    assert "No such file" in found.error.found
    assert "unixsocket" in found.told


@ONE_LOOP
async def test_a_private_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "embedded://")
    found = await checked(timeout=5)
    assert found.report.status in ("ok", "warning")
    assert found.warnings(*ASIDE) == []


# --- the configuration ---


@ONE_LOOP
async def test_wrong_and_misspelt_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_PORT", "no")
    monkeypatch.setenv("REDIS_PASSWROD", PASSWORD)
    found = await checked()
    assert found.error.step == "configuration"
    assert found.error.found == "REDIS_PORT=no: must be a whole number between 1 and 65,535"
    [unknown] = found.all("configuration", "warning")
    assert unknown.remedy == "Rename it to REDIS_PASSWORD."
    assert found.report.skipped["name"] == "configuration failed"


@ONE_LOOP
@pytest.mark.parametrize(
    ("url", "step"),
    [
        (f"redis://alice:{PASSWORD}@127.0.0.1:1/0", "port"),
        (f"redis://alice:{PASSWORD}/2@127.0.0.1", "configuration"),
        (f"redis://{PASSWORD}@nobody.invalid", "name"),
        (f"unix://alice:{PASSWORD}@/no/such.sock", "name"),
    ],
)
async def test_a_password_in_a_url(url: str, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", url)
    assert (await checked(timeout=5)).error.step == step  # and the secret was looked for


@ONE_LOOP
async def test_odd_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    Path(".env").write_text(f"REDIS_PASSWORD={PASSWORD}\n", "utf-8")
    Path(".env").chmod(0o644)
    at(
        monkeypatch,
        free_port(),
        pool_max_size=1,
        retry="always",
        command_timeout=120,
        pool_max_lifetime_seconds=1,
        health_check_interval=0,
    )
    found = await checked()
    told = [one.found for one in found.all("configuration", "warning")]
    assert [text.partition(":")[0].partition(" has")[0] for text in told] == [
        ".env",
        "REDIS_POOL_MAX_SIZE=1",
        "REDIS_POOL_MAX_LIFETIME_SECONDS=1",
        "REDIS_COMMAND_TIMEOUT=120",
        "REDIS_RETRY=always",
    ]
    Path(".env").chmod(0o600)
    assert len((await checked()).all("configuration", "warning")) == 4
    Path(".env").unlink()
    secret = tmp_path / "password"
    secret.write_text(PASSWORD)
    secret.chmod(0o604)
    monkeypatch.setenv("REDIS_PASSWORD_FILE", str(secret))
    assert (await checked()).all("configuration", "warning")[0].remedy == f"`chmod 600 {secret}`"
    secret.unlink()
    assert "No such file" in (await checked()).error.found


# --- the command ---


def command(*arguments: str, **variables: str) -> Result:
    return CliRunner().invoke(app, ["check", *arguments], env=variables)


def program(*arguments: str, **variables: str) -> subprocess.Popen[str]:
    """The same as a program of its own, which hears of SIGINT wherever the tests run."""
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from redisutils.cli import main; main()"
    )
    return subprocess.Popen(
        [sys.executable, "-c", start, "check", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(SOURCE)} | variables,
    )


def test_json_and_exit_codes(server: EmbeddedServer) -> None:
    done = command("--json", REDIS_URL=server.url)
    assert (done.exit_code, done.stderr) == (0, "")
    told = json.loads(done.stdout)
    assert told["status"] in ("ok", "warning")
    assert told["endpoint"] == f"127.0.0.1:{server.port}"
    assert {frozenset(one) for one in told["findings"]} == {
        frozenset({"step", "severity", "found", "remedy", "facts"})
    }
    assert server.password not in done.output
    assert command("--json", "--strict", REDIS_URL=server.url).exit_code == 1  # nothing is kept


def test_plain_text_is_whole_and_without_colours() -> None:
    with program(REDIS_PORT=str(free_port()), REDIS_PASSWORD=PASSWORD, COLUMNS="40") as process:
        out, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (1, "")
    assert "\x1b" not in out
    assert NEEDLE not in out
    assert re.fullmatch(r"redisutils check   localhost:\d+", out.splitlines()[0])
    [line] = [line for line in out.splitlines() if "port  " in line]
    assert line.startswith("  ✗ port")
    [remedy] = [line for line in out.splitlines() if "→" in line]
    assert remedy.endswith("is the port published?")


def test_wrong_usage() -> None:
    assert command("--timeout", "0").exit_code == 2
    assert command("--key", "two words").exit_code == 2
    told = command("--help").stdout.splitlines()
    assert "    redisutils check --processes 16 --key orders:1" in told
    assert "    130  ended by Ctrl-C" in told


def test_ctrl_c_ends_it_cleanly() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        program(
            "--timeout", "30", REDIS_PORT=str(silent.getsockname()[1]), REDIS_HOST="127.0.0.1"
        ) as process,
    ):
        silent.settimeout(30)
        first, _ = silent.accept()  # the connect, which it closes at once
        second, _ = silent.accept()  # on which it waits for an answer
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        first.close()
        second.close()
    assert (process.returncode, err) == (130, "")
    assert "✗ interrupted, in" in out


@pytest.mark.parametrize("width", [40, 60, 120])
def test_on_a_terminal_nothing_is_wider_than_it(width: int) -> None:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=True, color_system=None)
    remedy = "Set `REDIS_HOST=127.0.0.1` and " + "much more, " * 20
    with LiveView(console, "localhost:6379") as view:
        view.begin("port", 3, 15)
        view.tick(2.5)
        view.found(Finding("port", "error", "a word " * 30, remedy))
        view.skipped("login", "port failed")
        view.skipped("server", "port failed")
        view.end(Report("localhost:6379", [Finding("port", "error", "x", "y")], {}, 1.0))
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.getvalue()))
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    assert "✗ 1 error, in 1.0 s" in text
    assert "login, server: port failed" in text
    assert "2.5 s" in text
