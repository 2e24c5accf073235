"""The options of ``redisutils env``."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console

from redisutils.cli.env.catalogue import catalogue
from redisutils.cli.env.effective import effective
from redisutils.cli.env.template import template
from redisutils.cli.env.view import show

__all__ = ["env"]


def env(
    *,
    in_force: Annotated[
        bool,
        typer.Option(
            "--effective", help="What is in force, and where each value comes from. Secrets: ***."
        ),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print every setting as a commented .env, or those that are in force.

    The effective settings are what a program in this directory would get: from its
    environment, then .env, then the defaults.

    \b
    Exit codes:
      0  the settings are right
      1  --effective: a setting is wrong, or a REDIS_ variable is misspelt
      2  wrong usage

    \b
    Examples:
      redisutils env > .env.example
      redisutils env --effective
      redisutils env --effective --json | jq '.settings[] | select(.source != "default")'
    """  # noqa: D301  # \b, a backspace, tells click to leave a paragraph as it is
    if not in_force:
        if as_json:
            sections = [asdict(section) for section in catalogue()]
            for section in sections:
                for setting in section["settings"]:
                    setting["variable"] = f"REDIS_{setting['name'].upper()}"
            typer.echo(json.dumps({"sections": sections}, indent=2))
        else:
            typer.echo(template(), nl=False)
        return
    found = effective()
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=2))
    else:
        show(found, Console(highlight=False))
    raise typer.Exit(0 if found.right else 1)
