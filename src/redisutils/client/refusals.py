"""Commands that cannot be issued where they were issued, and what to do instead."""

from __future__ import annotations

from redisutils.commands import Command, is_unanswered
from redisutils.errors import NotSharable

__all__ = ["refuse_shared", "refuse_unanswered"]


def refuse_unanswered(command: Command) -> None:
    """Raise for a command that is not answered by one reply: nobody could tell whose the replies
    after it are, on a shared connection or on one's own.

    Raises:
        NotSharable
    """
    if is_unanswered(command):
        raise NotSharable(
            f"{command.name} is not answered by one reply, so that later replies could not be "
            f"told apart: {command.advice}"
        )


def refuse_shared(command: Command) -> None:
    """Raise for a command that would change everybody's connection.

    Raises:
        NotSharable
    """
    if command.stateful:
        raise NotSharable(
            f"{command.name} changes the state of its connection, and this client's is "
            f"shared by all tasks: {command.advice}"
        )
