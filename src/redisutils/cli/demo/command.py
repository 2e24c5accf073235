"""The options of ``redisutils demo``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from redisutils.cli.demo.failover.run import KillOptions
from redisutils.cli.demo.run import Options, kill_one, run
from redisutils.cli.demo.stage import Mode
from redisutils.cli.demo.tape import Tape, TapeError
from redisutils.cli.pictures import check_picture
from redisutils.cli.place import ServerArgument, as_server

__all__ = ["demo"]


def demo(
    url: ServerArgument = None,
    *,
    tasks: Annotated[
        int, typer.Option(min=1, max=5000, help="How many tasks trade at the same time.")
    ] = 50,
    seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="How long to trade. Default: 10 s, or to the tape's end."),
    ] = None,
    trades: Annotated[int | None, typer.Option(min=1, help="How many trades to make.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the simulated market.")] = 1,
    tape: Annotated[
        Path | None,
        typer.Option(help="Replay this CSV file of trades: DateTime,Price,Volume; gzip too."),
    ] = None,
    speed: Annotated[
        float | None,
        typer.Option(
            min=0.001, help="Replay at so many times real time. Default: as fast as it goes."
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
    """Trade on a real server for a while, and check every value that comes back.

    Many tasks share one pool. For each trade a task caches the price with a TTL and reads
    it, updates its portfolio and reads it, and publishes an event and waits to receive it.

    Without a URL, REDIS_URL or REDIS_HOST, in the environment or in .env, a private server is
    started for the run. All keys begin with "trading:demo-" and are deleted at the end.

    With --kill each task writes numbers to a list of its own. When a primary was killed and
    another took over, the lists are read: what was acknowledged must be there, once and in
    order; what the dead primary had not passed on is told apart.

    \b
    Exit codes:
      0  something was traded, every value was right, and no event was lost; also after Ctrl-C
      1  not so, or nobody answered, or --plot could not be written
      2  wrong options or settings
    """  # noqa: D301  # \b, a backspace, tells click to leave a paragraph as it is
    if speed is not None and tape is None:
        raise typer.BadParameter("needs --tape", param_hint="--speed")
    if plot is not None:
        check_picture("--plot", plot)
    wanted = dashboard or dashboard_port is not None
    if wanted:
        _check_dashboard()
    try:
        source = Tape(tape) if tape is not None else None
    except TapeError as error:
        raise typer.BadParameter(str(error), param_hint="--tape") from None
    if mode is not None and url:
        raise typer.BadParameter("--mode starts servers of its own", param_hint="URL")
    port = (dashboard_port or 0) if wanted else None
    if kill:
        if mode not in ("cluster", "sentinel"):
            raise typer.BadParameter("needs --mode cluster or --mode sentinel", param_hint="--kill")
        for name, given in (("--tape", tape), ("--trades", trades), ("--plot", plot)):
            if given is not None:
                raise typer.BadParameter("does not go with --kill", param_hint=name)
        killing = KillOptions(mode, tasks, seconds, live=not plain, dashboard=port)
        raise typer.Exit(kill_one(killing, Console(highlight=False)))
    options = Options(
        url=as_server(url),
        tasks=tasks,
        seconds=seconds,
        trades=trades,
        seed=seed,
        tape=source,
        speed=speed,
        plot=plot,
        live=not plain,
        dashboard=port,
        mode=mode,
    )
    raise typer.Exit(run(options, Console(highlight=False)))


def _check_dashboard() -> None:
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        raise typer.BadParameter(
            f"needs {' and '.join(missing)}; install it with:  pip install 'redisutils[monitor]'",
            param_hint="--dashboard",
        )
