"""The options of ``redisutils top``."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Final

import typer
from rich.console import Console

from redisutils import RedisConfig
from redisutils.cli.place import SEEN, as_server
from redisutils.cli.top.events import Address
from redisutils.cli.top.run import Options, run
from redisutils.cli.top.source import OwnPool, Remote, Source
from redisutils.errors import ConfigError
from redisutils.monitor.access import check_token
from redisutils.secret import Secret
from redisutils.url import SCHEMES

__all__ = ["top"]

VARIABLE: Final = "REDISUTILS_TOKEN"
MOST: Final = 4096
"""Bytes of a file with a token, at most."""


def top(
    url: Annotated[
        str | None,
        typer.Argument(
            help="The server, as for the other commands; or http://127.0.0.1:9121/ of a running "
            f"redisutils serve or an application, to watch the pool behind it. {SEEN}",
            metavar="URL",
            show_default=False,
        ),
    ] = None,
    *,
    token_file: Annotated[
        Path | None,
        typer.Option(help=f"The dashboard's token is in this file. Default: {VARIABLE}, if set."),
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Print one picture and exit.")] = False,
    count: Annotated[
        int | None, typer.Option(min=1, max=1_000_000, help="Exit after so many frames.")
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print each frame as a line of JSON.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="A line a second, as where there is no terminal.")
    ] = False,
) -> None:
    """Watch a pool, its server and its program, second by second.

    With the URL of a server, or without one that of REDIS_URL or REDIS_HOST (in the
    environment or in .env), a pool of its own asks the server how it is. With the address of
    a dashboard (http, https) it shows what the program behind it does: a running redisutils
    serve, or an application that mounts monitor_app. A dashboard that is lost is tried again
    each second.

    q quits, the space bar pauses.

    \b
    Examples:
      redisutils top
      redisutils top redis://db.example:6379/0
      redisutils top http://127.0.0.1:9121/
      redisutils top https://shop.example/redis/ --token-file /run/secrets/redisutils
      redisutils top --once
      redisutils top --json --count 60 > minute.jsonl

    \b
    Exit codes:
      0  quit, or as many frames as --once or --count asked for, the last of them not unhealthy
      1  the last of them is unhealthy, or the dashboard was not reached
      2  wrong options or settings
    """  # noqa: D301  # the character that keeps a paragraph's lines apart
    options = Options(count=1 if once else count, json=json, once=once, plain=plain)

    def source() -> Source:
        server = as_server(url)
        if server is None:
            return OwnPool(RedisConfig())
        if server.partition("://")[0].lower() in SCHEMES:
            return OwnPool(RedisConfig(url=server))
        return Remote(Address.of(server), _token(token_file))

    raise typer.Exit(run(source, options, Console(highlight=False)))


def _token(path: Path | None) -> Secret | None:
    if path is None:
        text = os.environ.get(VARIABLE, "").strip()
        return check_token(text, VARIABLE) if text else None
    try:
        with path.open("rb") as file:
            found = file.read(MOST + 1)
        return check_token(found.decode("ascii").strip(), f"the token in {path}")
    except OSError as error:
        raise ConfigError(
            f"--token-file {path}: cannot be read: {error.strerror or error}"
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(f"--token-file {path}: is no text") from None
