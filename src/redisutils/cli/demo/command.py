"""The options of ``redisutils demo``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from redisutils.cli.demo.stage import Mode
from redisutils.cli.pictures import check_picture
from redisutils.cli.place import ServerArgument, as_server

if TYPE_CHECKING:
    from redisutils.cli.demo.source import Source

__all__ = ["demo"]


def demo(
    url: ServerArgument = None,
    *,
    tasks: Annotated[int, typer.Option(min=1, max=5000, help="How many traders there are.")] = 50,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="How long to trade. Default: 10 s, or to the tape's end."),
    ] = None,
    trades: Annotated[
        int | None, typer.Option(min=1, help="How many trades of the tape to play.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulated tape.")] = 1,
    tape: Annotated[
        Path | None,
        typer.Option(
            help="Replay this CSV file of trades: DateTime,Price,Volume; gzip too. Default: "
            "the one that REDISUTILS_TAPE names, or a simulated one."
        ),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Play the tape at so many times real time. Default: as fast as it goes."
        ),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw latency and throughput to this .png or .svg file.")
    ] = None,
    dashboard: Annotated[
        bool,
        typer.Option(
            "--dashboard",
            help="Serve the live dashboard of the run on this machine, and print its address. "
            "Without another limit the run goes on until Ctrl-C.",
        ),
    ] = False,
    dashboard_port: Annotated[
        int | None,
        typer.Option(
            min=0, max=65535, help="The dashboard's port. Default: any free one. Implies the above."
        ),
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="Start servers for the run: one, a cluster of three primaries with a replica "
            "each, or a primary with two replicas and three sentinels. Default: those that the "
            "environment names.",
        ),
    ] = None,
    kill: Annotated[
        bool,
        typer.Option(
            "--kill",
            help="Kill a primary while it runs, and account for every write. Needs --mode cluster "
            "or sentinel.",
        ),
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="One line a second, also on a terminal.")
    ] = False,
) -> None:
    """Play a trading day on a real server, show it as a blotter, and check every value.

    A tape of trades goes into the market data, with quotes and order books made around it. Traders
    place orders; a venue executes them against the tape; each of its reports moves an order and a
    position in one step. The blotter reads all it shows: quotes and orders from their live feeds,
    the book, and what the positions are worth. In the end the ledger has to balance, to the last
    digit.

    Without a URL, REDIS_URL or REDIS_HOST, in the environment or in .env, a private server is
    started for the run. All keys begin with "trading:demo-" and are deleted at the end.

    With --kill each task writes numbers to a list of its own. When a primary was killed and
    another took over, the lists are read: what was acknowledged must be there, once and in
    order; what the dead primary had not passed on is told apart.

    \b
    Exit codes:
      0  every value was right, no event was lost, the ledger balances; also after Ctrl-C
      1  not so, or nobody answered, or --plot could not be written
      2  wrong options or settings
    """  # noqa: D301  # \b, a backspace, tells click to leave a paragraph as it is
    if plot is not None:
        check_picture("--plot", plot)
    wanted = dashboard or dashboard_port is not None
    if wanted:
        _check_there("--dashboard", "monitor", "starlette", "uvicorn")
    if mode is not None and url:
        raise typer.BadParameter("--mode starts servers of its own", param_hint="URL")
    port = (dashboard_port or 0) if wanted else None
    if kill:
        if mode not in ("cluster", "sentinel"):
            raise typer.BadParameter("needs --mode cluster or --mode sentinel", param_hint="--kill")
        for name, given in (("--tape", tape), ("--trades", trades), ("--plot", plot)):
            if given is not None:
                raise typer.BadParameter("does not go with --kill", param_hint=name)
        from redisutils.cli.demo.failover.run import KillOptions
        from redisutils.cli.demo.run import kill_one

        killing = KillOptions(mode, tasks, seconds, live=not plain, dashboard=port)
        raise typer.Exit(kill_one(killing, Console(highlight=False)))
    _check_there("demo", "trading", "msgspec")
    from redisutils.cli.demo.run import Options, run

    options = Options(
        source=_source(tape, seed),
        url=as_server(url),
        tasks=tasks,
        seconds=seconds,
        trades=trades,
        speed=speed,
        plot=plot,
        live=not plain,
        dashboard=port,
        mode=mode,
    )
    raise typer.Exit(run(options, Console(highlight=False)))


def _source(tape: Path | None, seed: int) -> Source:
    """The tape that was asked for, by the option or the environment; else a simulated one."""
    from redisutils.cli.demo.source import TapeError, recorded, simulated
    from redisutils.trading.errors import InvalidValue
    from redisutils.trading.market import find_tape

    try:
        found = tape or find_tape()
        return simulated(seed) if found is None else recorded(found)
    except (TapeError, InvalidValue) as error:
        hint = "--tape" if tape else "REDISUTILS_TAPE"
        raise typer.BadParameter(str(error), param_hint=hint) from None


def _check_there(what: str, extra: str, *modules: str) -> None:
    missing = [name for name in modules if find_spec(name) is None]
    if missing:
        raise typer.BadParameter(
            f"needs {' and '.join(missing)}; install it with:  pip install 'redisutils[{extra}]'",
            param_hint=what,
        )
