"""The options of ``redisutils serve``."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from redisutils.cli.place import ServerArgument, as_server

__all__ = ["serve"]


def serve(
    url: ServerArgument = None,
    *,
    host: Annotated[
        str, typer.Option(help="Address to listen on. Anything but loopback needs a token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 for any free one.")
    ] = 9121,
    token_file: Annotated[
        Path | None,
        typer.Option(help="File with the token that clients need. Or: REDISUTILS_TOKEN."),
    ] = None,
    no_token: Annotated[
        bool, typer.Option("--no-token", help="Serve everybody who can reach the address.")
    ] = False,
    drain: Annotated[
        float,
        typer.Option(
            min=0.0,
            max=600.0,
            help="Seconds to go on answering after SIGTERM, with /readyz saying no.",
        ),
    ] = 1.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Say where it is as one line of JSON.")
    ] = False,
) -> None:
    """Serve health, metrics and a live dashboard over HTTP, until SIGTERM or Ctrl-C.

    \b
    /         the dashboard                /livez   200 while the process is alive
    /metrics  for Prometheus               /readyz  200 while Redis can be used, else 503
    /healthz  all of the health as JSON    /events  the dashboard's figures, each second

    /livez and /readyz are open to all; the rest wants the token, if there is one, as
    "Authorization: Bearer ...". A browser is asked for it.

    It starts while Redis is down, and finds it when it comes up. Ends with exit code 0,
    1 if it could not listen, or 2 for wrong options or settings.

    \b
    Examples:
      redisutils serve
      redisutils serve redis://cache.internal:6379 --port 8080
      redisutils serve --host 0.0.0.0 --token-file /run/secrets/token
    """  # noqa: D301  # \b tells click to leave the lines below it as they are
    missing = [name for name in ("starlette", "uvicorn") if find_spec(name) is None]
    if missing:
        typer.echo(
            f"redisutils serve needs {' and '.join(missing)}, which is not installed.\n"
            'Install it with:  pip install "redisutils[monitor]"',
            err=True,
        )
        raise typer.Exit(2)
    from redisutils.cli.serve.run import Options, run

    options = Options(
        url=as_server(url),
        host=host,
        port=port,
        token_file=token_file,
        no_token=no_token,
        drain=drain,
        as_json=as_json,
    )
    raise typer.Exit(run(options))
