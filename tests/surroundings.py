"""Settings as a test gives them: in the environment, in a file ``.env``, or to the constructor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from redisutils.config import RedisConfig
from redisutils.errors import ConfigError

__all__ = [
    "Setenv",
    "clear",
    "config",
    "dotenv_in",
    "env_of",
    "refused",
]

Setenv: TypeAlias = Callable[..., None]


def clear(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """No variable of ours is set, and in this folder, where we are then, there is no ``.env``."""
    for name in list(os.environ):
        if name.upper().startswith("REDIS_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(folder)


def env_of(monkeypatch: pytest.MonkeyPatch) -> Setenv:
    """``env(HOST="a")`` sets REDIS_HOST."""

    def setenv(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"REDIS_{name}", value)

    return setenv


def dotenv_in(folder: Path) -> Setenv:
    """``dotenv(HOST="a")`` writes REDIS_HOST into .env."""

    def write(**variables: str) -> None:
        lines = (f"REDIS_{name}='{value}'\n" for name, value in variables.items())
        (folder / ".env").write_text("".join(lines))

    return write


def config(**values: Any) -> RedisConfig:
    return RedisConfig(**values)


def refused(**values: Any) -> str:
    """The message with which these arguments are refused. It is all that is told."""
    with pytest.raises(ConfigError) as caught:
        RedisConfig(**values)
    assert caught.value.__cause__ is caught.value.__context__ is None
    return str(caught.value)
