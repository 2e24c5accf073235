"""Every setting with its meaning. ``RedisConfig`` is the one place where they are written down:
its fields, their defaults, what their checks allow, and the docstrings below them."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from redisutils.address import Address
from redisutils.cli.log import LEVELS
from redisutils.config import RedisConfig, allowed
from redisutils.settings import PREFIX

__all__ = ["Section", "Setting", "as_written", "catalogue"]

_SECTIONS: Final = {
    "url": "The server: a URL, or its parts; both together must not contradict each other",
    "mode": "Many servers: the nodes of a cluster, or a primary and what sentinels know of it",
    "pool_max_size": "The pool",
    "pool_timeout": "Time",
    "tls_enabled": "TLS; the files are read again when they change",
    "max_retries": "Repeating what failed",
    "health_check_interval": "Upkeep",
}
"""By the field that each begins with; a new field belongs to the section that it stands in."""

_EXAMPLES: Final = {
    "url": "redis://user:p%40ssword@localhost:6379/0",
    "username": "trader",
    "password": "secret",
    "password_file": "/run/secrets/redis",
    "nodes": "10.0.0.1:7000,10.0.0.2:7000,[fd00::3]:7000",
    "sentinel_master": "mymaster",
    "sentinel_username": "watcher",
    "sentinel_password": "secret",
    "address_map": "10.0.0.1:7000=127.0.0.1:17000,10.0.0.2:7000=127.0.0.1:17001",
    "read_zone": "eu-west-1a",
    "tls_cert_path": "/etc/redisutils/client.crt",
    "tls_key_path": "/etc/redisutils/client.key",
    "tls_ca_path": "/etc/redisutils/ca.crt",
}
"""Of settings that have no default to show."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One variable."""

    name: str
    """Of the field; ``log`` is the command line's own."""
    meaning: str
    allowed: str
    default: str | None
    """As it is written in a variable; None for none."""
    example: str | None = None
    """Of one without a default."""

    @property
    def variable(self) -> str:
        """``REDIS_PORT``."""
        return PREFIX + self.name.upper()


@dataclass(frozen=True, slots=True)
class Section:
    """Settings that belong together."""

    title: str
    settings: tuple[Setting, ...]


def catalogue() -> list[Section]:
    """Every setting, in the order of ``RedisConfig``, and the command line's own at the end."""
    meanings = dict(_meanings())
    found: list[tuple[str, list[Setting]]] = []
    for name, field in RedisConfig.model_fields.items():
        if name in _SECTIONS:
            found.append((_SECTIONS[name], []))
        default = as_written(field.default, off=name)
        found[-1][1].append(
            Setting(name, meanings.get(name, ""), allowed(name), default, _EXAMPLES.get(name))
        )
    log = Setting(
        "log",
        "What the command line tells on standard error. Read from the environment alone.",
        f"{', '.join(LEVELS[:-1])} or {LEVELS[-1]}",
        None,
        "warning",
    )
    found.append(("The command line", [log]))
    return [Section(title, tuple(settings)) for title, settings in found]


def as_written(value: object, *, off: str = "") -> str | None:
    """A value as a variable has it. None for none, unless the setting named ``off`` can be off."""
    if value is None:
        return "off" if off and allowed(off).endswith("or off") else None
    if isinstance(value, tuple):  # addresses, or pairs of them
        return ",".join(map(_address_written, value)) or None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _address_written(item: Address | tuple[Address, Address]) -> str:
    return str(item) if isinstance(item, Address) else f"{item[0]}={item[1]}"


def _meanings() -> Iterator[tuple[str, str]]:
    """The docstring below each field, as plain text."""
    source = ast.parse(textwrap.dedent(inspect.getsource(RedisConfig)))
    [the_class] = source.body
    assert isinstance(the_class, ast.ClassDef)
    for field, below in zip(the_class.body, the_class.body[1:], strict=False):
        if (
            isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(below, ast.Expr)
            and isinstance(below.value, ast.Constant)
        ):
            yield field.target.id, _plain(str(below.value.value))


def _plain(docstring: str) -> str:
    """Without markup; other settings under the names of their variables."""

    def name(found: re.Match[str]) -> str:
        word = found.group(1)
        return PREFIX + word.upper() if word in RedisConfig.model_fields else word

    first = docstring.partition("\n\n")[0]  # what follows is for programmers
    text = re.sub(r"``([^`]+)``", name, " ".join(first.split())).replace('"', "")
    return text.replace("None, or off,", "off").replace("0, or off,", "0 or off")
