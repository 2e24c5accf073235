"""The options of ``redisutils check``."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Annotated

import typer
from rich.console import Console

from redisutils.cli.check.run import Options, run
from redisutils.cli.check.view import JsonView, LiveView, PlainView, View
from redisutils.cli.loading import load
from redisutils.cli.place import ServerArgument, as_server

__all__ = ["check"]


def check(
    url: ServerArgument = None,
    *,
    timeout: Annotated[
        float, typer.Option(min=0.1, max=600, help="Seconds for each step, at most.")
    ] = 5.0,
    processes: Annotated[
        int,
        typer.Option(min=1, max=100_000, help="How many processes will have such a pool."),
    ] = 1,
    key: Annotated[
        str, typer.Option(help="Whether the user may read and write this key; it is not touched.")
    ] = "trading:check",
    try_all: Annotated[
        bool,
        typer.Option(
            "--try-all",
            help="Where the server does not say what the user may do, find out by trying.",
        ),
    ] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Warnings count as errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, at the end.")] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="No live picture, also on a terminal.")
    ] = False,
) -> None:
    """Say what is wrong with the set-up, and what to do about it.

    Looks at the settings (from the environment and .env, as a program here would read them),
    the host's name, the port, TLS, user and rights, the server, its memory, persistence, clients
    and replicas, the round trip, the clocks, and this machine's limits.

    It only reads: no key is touched, no data written, no secret printed. What the user may do
    is asked of the server, so that next to nothing is refused: a user without acl|dryrun leaves
    one entry in its ACL LOG, one without eval, too, a second one, and less is looked at. A
    refused password is an entry as well. --try-all leaves one for each command refused.

    \b
    Exit codes:
      0    no error (with --strict: and no warning)
      1    errors were found
      2    wrong usage
      130  ended by Ctrl-C

    \b
    JSON:
      {"status": "ok|warning|error|interrupted", "endpoint": "host:port", "seconds": 1.2,
       "findings": [{"step", "severity": "ok|note|warning|error", "found", "remedy", "facts"}],
       "skipped": {"step": "why"}}

    \b
    Examples:
      redisutils check
      redisutils check redis://db.example:6379/0
      REDIS_URL=rediss://db.example:6380 redisutils check --strict
      redisutils check --processes 16 --key orders:1
      redisutils check --json | jq '.findings[] | select(.severity == "error")'
    """  # noqa: D301  # \b, a backspace, tells click to leave a paragraph as it is
    if " " in key or not key:
        raise typer.BadParameter("must be one word", param_hint="--key")
    # What the library logs is among the findings; without a handler it would be printed, too.
    logging.getLogger("redisutils").addHandler(logging.NullHandler())
    server = as_server(url)
    console = Console(highlight=False)
    view: View
    if as_json:
        view = JsonView(console)
    elif console.is_terminal and not console.is_dumb_terminal and not plain:
        config = load(server).config
        view = LiveView(console, config.endpoint if config else None)
    else:
        view = PlainView(console, folded=console.is_terminal)
    options = Options(timeout, processes, key, try_all, server)
    report = run(options, view, _loop_factory())
    raise typer.Exit(report.exit_code(strict=strict))


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
