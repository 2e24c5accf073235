"""What is in force, and where each value comes from."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dotenv.parser import parse_stream

from redisutils.cli.env.catalogue import as_written
from redisutils.cli.loading import DOTENV, load
from redisutils.config import RedisConfig, Sources
from redisutils.settings import PREFIX, Given
from redisutils.url import masked

__all__ = ["Effective", "Value", "effective"]


@dataclass(frozen=True, slots=True)
class Value:
    """One setting as it is in force. Of a configuration that is wrong, as it was given."""

    name: str
    variable: str
    value: str | None
    """As a variable has it; secrets are ``***``."""
    source: Literal["default", "environment", ".env"]
    given_by: str | None = None
    """The variable that says it: ``REDIS_URL`` for its parts. None for a default."""
    file: str | None = None
    line: int | None = None
    """Of the file, where it can be told."""

    @property
    def where(self) -> str:
        """For people: ``REDIS_URL in .env, line 3``."""
        if self.given_by is None:
            return "default"
        by = f"{self.given_by} in " if self.given_by != self.variable else ""
        if self.source == "environment":
            return f"{by}the environment" if by else "environment"
        return f"{by}{DOTENV}" + (f", line {self.line}" if self.line else "")


@dataclass(frozen=True, slots=True)
class Effective:
    """All of it."""

    values: tuple[Value, ...]
    problems: tuple[str, ...]
    """What is wrong, each in words."""
    unknown: tuple[tuple[str, str], ...]
    """Variables that are no settings, and what was meant by each, or ""."""

    @property
    def right(self) -> bool:
        """Whether there is nothing to complain of."""
        return not self.problems and not self.unknown

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "status": "ok" if self.right else "error",
            "settings": [asdict(value) for value in self.values],
            "problems": list(self.problems),
            "unknown": [{"variable": name, "meant": meant or None} for name, meant in self.unknown],
        }


def effective() -> Effective:
    """What ``RedisConfig()`` would be here and now."""
    loaded = load()
    values = tuple(_values(loaded.config, loaded.sources))
    return Effective(values, loaded.problems, tuple(loaded.sources.unknown))


def _values(config: RedisConfig | None, found: Sources) -> Iterator[Value]:
    lines = _lines_of(Path(DOTENV))
    for name, field in RedisConfig.model_fields.items():
        variable = PREFIX + name.upper()
        given = found.given.get(name)
        if config is None:
            value = _as_given(name, given) if given else as_written(field.default, off=name)
        else:
            value = _in_force(name, getattr(config, name), given)
        if given is None:
            yield Value(name, variable, value, "default")
        elif given.where:
            file = os.path.abspath(DOTENV)
            yield Value(name, variable, value, ".env", given.name, file, lines.get(given.name))
        else:
            yield Value(name, variable, value, "environment", given.name)


def _in_force(name: str, value: object, given: Given | None) -> str | None:
    if name in ("password", "sentinel_password"):
        return None if value is None else "***"
    if given is not None and given.hidden:
        return "***"
    if name == "url" and given is not None:
        return given.shown  # the field has neither user nor database
    if given is not None and "@" in str(value):
        return masked(str(value))
    return as_written(value, off=name)


def _as_given(name: str, given: Given) -> str | None:
    """Of a configuration that is wrong as a whole."""
    if name in ("password", "sentinel_password") or given.hidden:
        return "***"
    if name != "url" and given.name == "REDIS_URL":
        return as_written(given.value)  # its part, not all of it
    return given.shown


def _lines_of(path: Path) -> dict[str, int]:
    """The line that counts for each variable of the file, which is the last that sets it."""
    if not path.is_file():  # a named pipe can be read once, and RedisConfig has
        return {}
    try:
        with path.open(encoding="utf-8-sig") as file:
            return {
                binding.key.upper(): binding.original.line + _blank_lines(binding.original.string)
                for binding in parse_stream(file)
                if binding.key
            }
    except (OSError, UnicodeDecodeError):
        return {}


def _blank_lines(text: str) -> int:
    """Those before a binding belong to it."""
    return text.count("\n", 0, len(text) - len(text.lstrip()))
