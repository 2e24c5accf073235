"""The server as an argument: alike for all commands, and its password is told to nobody."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from redisutils.cli.app import app
from redisutils.testing import EmbeddedServer

from .canary import NEEDLE
from .checkup import free_port
from .surroundings import clear

COMMANDS = ("bench", "check", "demo", "serve", "top")

QUICK = {
    "bench": ["--seconds", "0.1", "--warmup", "0", "--keys", "10", "--tasks", "2", "--json"],
    "check": ["--json"],
    "demo": ["--trades", "3", "--plain"],
    "top": ["--once"],
}


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    clear(monkeypatch, tmp_path)


def told(*arguments: str, code: int) -> str:
    """What a command says on both its channels, with the only password in no place of it."""
    done = CliRunner().invoke(app, arguments)
    assert NEEDLE not in done.output
    assert done.exit_code == code, done.output
    return done.output


@pytest.mark.parametrize("command", QUICK)
def test_it_goes_before_the_environment(
    command: str, server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://:{NEEDLE}@127.0.0.1:{free_port()}/3")
    shown = told(command, server.url, *QUICK[command], code=0)
    assert f"127.0.0.1:{server.port}" in shown
    assert server.password not in shown


def test_what_it_does_not_say_is_filled_in(
    server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_PASSWORD", server.password)
    shown = told("check", f"redis://127.0.0.1:{server.port}", code=0)
    assert "REDIS_PASSWORD and the command's URL set" in shown
    assert "stands on the command line" not in shown


def test_check_says_where_a_password_is_seen(server: EmbeddedServer) -> None:
    assert "stands on the command line" in told("check", server.url, code=0)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_one(command: str) -> None:
    code = 1 if command == "check" else 2
    shown = told(command, f"redis://u:{NEEDLE}@h:99999", code=code)
    assert "url=redis://u:***@h:99999: its port must be between 1 and 65,535" in shown


@pytest.mark.parametrize(
    "arguments",
    [
        (f"redis://u:{NEEDLE}@h",),
        ("check", "redis://a", f"redis://u:{NEEDLE}@h"),
        ("check", "redis://a", f"u:{NEEDLE}@h"),
        ("check", f"--nothing=redis://u:{NEEDLE}@h"),
        ("check", "--timeout", f"redis://u:{NEEDLE}@h"),
        ("bench", "--mix", f"redis://u:{NEEDLE}@h"),
        ("top", f"reddis://u:{NEEDLE}@h"),
        ("top", f"redis//u:{NEEDLE}@h"),
        ("top", f"u:{NEEDLE}@h"),
        ("serve", "--port", f"redis://u:{NEEDLE}@h"),
    ],
)
def test_in_the_wrong_place(arguments: tuple[str, ...]) -> None:
    told(*arguments, code=2)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_that_it_is_seen(command: str) -> None:
    shown = " ".join(told(command, "--help", code=0).split())
    assert "Everybody on this machine can read a password in it" in shown
