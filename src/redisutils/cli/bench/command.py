"""The options of ``redisutils bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from rich.console import Console

from redisutils.cli.bench.load import Arrivals
from redisutils.cli.bench.mix import OPERATIONS, parse_mix, parse_size
from redisutils.cli.bench.record import RecordError, Settings, load_record
from redisutils.cli.bench.run import Options, run
from redisutils.cli.bench.thresholds import parse_threshold
from redisutils.cli.pictures import check_file, check_picture
from redisutils.cli.place import ServerArgument, as_server

__all__ = ["bench"]

_T = TypeVar("_T")


def bench(
    url: ServerArgument = None,
    *,
    mix: Annotated[
        str,
        typer.Option(
            help=f"Commands and how often each is drawn: {', '.join(OPERATIONS)}.",
            metavar="NAME=N,…",
        ),
    ] = "get=8,set=2",
    size: Annotated[
        str,
        typer.Option(
            help="Bytes of a value: 100, 1k, or a range such as 100-1000.", metavar="BYTES"
        ),
    ] = "100",
    tasks: Annotated[
        int, typer.Option(min=1, max=10_000, help="Commands under way at a time, at most.")
    ] = 50,
    seconds: Annotated[float, typer.Option(min=0.1, max=3600, help="How long to measure.")] = 10.0,
    rate: Annotated[
        float | None,
        typer.Option(
            min=0.1,
            max=1_000_000,
            help="Commands per second, due by the clock whether or not earlier ones have been "
            "answered. Without it each task sends its next one when it has its answer.",
        ),
    ] = None,
    arrivals: Annotated[
        Arrivals, typer.Option(help="How --rate comes: at random, or evenly.")
    ] = "poisson",
    keys: Annotated[
        int, typer.Option(min=1, max=1_000_000, help="Keys of each kind that the mix needs.")
    ] = 10_000,
    pipeline: Annotated[
        int, typer.Option(min=1, max=1000, help="Commands sent and timed together.")
    ] = 1,
    warmup: Annotated[
        float, typer.Option(min=0, max=600, help="Seconds of the same load before it counts.")
    ] = 1.0,
    seed: Annotated[
        int | None, typer.Option(help="Draws the same commands, in the same order.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(help="Write the run to this file, for --compare.")
    ] = None,
    compare: Annotated[Path | None, typer.Option(help="Show a saved run beside this one.")] = None,
    plot: Annotated[
        Path | None, typer.Option(help="Draw the percentiles to this .svg or .png file.")
    ] = None,
    hgrm: Annotated[
        Path | None,
        typer.Option(help="Write the percentiles as HdrHistogram's tools read them."),
    ] = None,
    fail_if: Annotated[
        list[str] | None,
        typer.Option(
            help="Exit with 3 if that is so: p99>5ms, p99.9>10ms, mean>1ms, max>50ms, rate<10000, "
            "errors>0, errors>0.1%. May be given several times.",
            metavar="CONDITION",
        ),
    ] = None,
    json: Annotated[
        bool, typer.Option("--json", help="Print the run as JSON, and nothing else.")
    ] = False,
    plain: Annotated[
        bool, typer.Option("--plain", help="One line a second, also on a terminal.")
    ] = False,
) -> None:
    """Load your server with your mix of commands, and see how long they take.

    Without --rate (closed loop) it finds out how much the server and this program can do. With
    it (open loop) how long callers wait at that load: response times count from when a command
    was due, so that a stall is not hidden by the commands that it kept from being sent.

    Without a URL, REDIS_URL or REDIS_HOST, in the environment or in .env, a private server is
    started for the run. All keys begin with "redisutils:bench:" and a random name, have a
    TTL, and are deleted at the end, also after Ctrl-C. No other key is touched.

    \b
    Examples:
      redisutils bench
      redisutils bench redis://db.example:6379/0 --mix get=8,set=2 --size 100-1000 --tasks 200
      redisutils bench --rate 20000 --seconds 30 --plot latency.svg
      redisutils bench --rate 5000 --mix hgetall=5,hset --save before.json
      redisutils bench --rate 5000 --mix hgetall=5,hset --compare before.json
      redisutils bench --rate 2000 --fail-if "p99>5ms" --fail-if "errors>0" --json

    \b
    Exit codes:
      0    done
      1    commands failed, nobody answered, or the --rate was not held: more than
           2 % of what was due, and more than comes in 0.1 s, was late at the end
      2    wrong options or settings
      3    a --fail-if came true
      130  ended early by Ctrl-C or SIGTERM; what had been measured is shown
    """  # noqa: D301  # the character that keeps a paragraph's lines apart
    settings = Settings(
        mix=_parsed("--mix", parse_mix, mix),
        size=_parsed("--size", parse_size, size),
        tasks=tasks,
        seconds=seconds,
        warmup=warmup,
        keys=keys,
        pipeline=pipeline,
        rate=rate,
        arrivals=arrivals,
    )
    thresholds = tuple(_parsed("--fail-if", parse_threshold, text) for text in fail_if or ())
    for option, path in (("--save", save), ("--hgrm", hgrm)):
        if path is not None:
            check_file(option, path)
    if plot is not None:
        check_picture("--plot", plot)
    try:
        compared = None if compare is None else (compare, load_record(compare))
    except RecordError as error:
        raise typer.BadParameter(str(error), param_hint="--compare") from None
    options = Options(
        settings=settings,
        url=as_server(url),
        seed=seed,
        compare=compared,
        save=save,
        plot=plot,
        hgrm=hgrm,
        thresholds=thresholds,
        json=json,
        live=not plain,
    )
    out = Console(highlight=False)
    progress = Console(highlight=False, stderr=True) if json else out
    raise typer.Exit(run(options, out, progress))


def _parsed(option: str, parse: Callable[[str], _T], text: str) -> _T:
    try:
        return parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint=option) from None
