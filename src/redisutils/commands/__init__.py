"""What a command is: read-only, repeatable, blocking, stateful, and where its keys are.

======= =======================================================================================
module  what it is
======= =======================================================================================
command a command, whatever its arguments: ``lookup(args)`` finds it
calls   one call of it, with its arguments: the other functions judge it
words   arguments as they go to the server, and as it compares them
======= =======================================================================================

Arguments are as redis-py's ``execute_command`` takes them: the name first, in any case,
as str or bytes, ``"CLIENT LIST"`` in one string or ``"CLIENT", "LIST"`` in two. Nothing
here refuses arguments: what is wrong with them is for the packer and the server to say.
Words are compared as the server does, without regard to case.
"""

from redisutils.commands.calls import (
    block_timeout,
    is_blocking,
    is_repeatable,
    keys_of,
    may_write,
)
from redisutils.commands.command import Command, is_container, is_unanswered, lookup

__all__ = [
    "Command",
    "block_timeout",
    "is_blocking",
    "is_container",
    "is_repeatable",
    "is_unanswered",
    "keys_of",
    "lookup",
    "may_write",
]
