"""The command line's root: global options, and one line for each command."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from redisutils.cli.bench.command import bench
from redisutils.cli.check.command import check
from redisutils.cli.demo.command import demo
from redisutils.cli.env.command import env
from redisutils.cli.log import configure_logging
from redisutils.cli.place import Careful
from redisutils.cli.serve.command import serve
from redisutils.cli.top.command import top

__all__ = ["app"]

app = typer.Typer(
    name="redisutils",
    cls=Careful,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"redisutils {version('redisutils')}")
        except PackageNotFoundError:
            typer.echo("redisutils (run from source, not installed)")
        raise typer.Exit


@app.callback()
def root(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Print and exit."),
    ] = False,
) -> None:
    """A Redis and Valkey connection manager for trading platforms.

    Where the server is comes from REDIS_URL, REDIS_HOST and their kin, in the
    environment or in .env, or from the command's own argument. REDIS_LOG=debug shows
    what happens inside.

    Each command's help names its exit codes. All end with 141 when whoever reads their output
    has gone, and with 74 when it cannot be written.
    """
    try:
        configure_logging()
    except ValueError as error:
        typer.echo(f"redisutils: {error}", err=True)
        raise typer.Exit(2) from None


app.command(short_help="Load your server with a mix of commands, and time them.")(bench)
app.command()(check)
app.command(short_help="Trade on a real server, and check every value that comes back.")(demo)
app.command(short_help="Print every setting as a .env template, or those in force.")(env)
app.command(short_help="Serve health, metrics and a live dashboard over HTTP.")(serve)
app.command()(top)
