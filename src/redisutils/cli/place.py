"""The server as an argument of a command, in the same way for all of them; and no secret in what
is said about wrong usage."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from redisutils.secret import Secret
from redisutils.url import masked

__all__ = ["SEEN", "Careful", "ServerArgument", "as_server"]

SEEN: Final = (
    "Everybody on this machine can read a password in it (ps): better put it into REDIS_URL, "
    "REDIS_PASSWORD or the file REDIS_PASSWORD_FILE."
)

ServerArgument = Annotated[
    str | None,
    typer.Argument(
        metavar="URL",
        show_default=False,
        help="The server, such as rediss://user@host:6380/0, in place of REDIS_URL, REDIS_HOST and "
        f"REDIS_PORT; the other settings hold as ever. {SEEN}",
    ),
]

_URL: Final = re.compile(r"[\w+]+:/?/?\S*@.*|[\w+]+://.*", re.DOTALL)

_UsageError: Any = typer.BadParameter.__bases__[0]
"""typer has it of click, and later of its own."""


def as_server(url: str | None) -> Secret | None:
    """The argument for settings, which take None for what is not given; "" is nothing either."""
    return Secret(url) if url else None


class Careful(TyperGroup):
    """Complains about wrong usage without repeating what may be a password."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        try:
            return super().invoke(ctx)
        except _UsageError as error:
            error.message = _URL.sub(lambda found: masked(found[0]), error.message).removeprefix(
                "Value error, "  # typer lets pydantic check choices, and repeats its words
            )
            raise
