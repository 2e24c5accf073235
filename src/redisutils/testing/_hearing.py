"""Waiting until one node of a cluster has heard what another has said of its slots.

Primaries tell each other on their bus which slots they own, and the kernel may hold such a message
back until an acknowledgement has come, for 40 ms and more. Meanwhile clients may have told both of
more slots. To a Valkey that imports a slot, a message of its source that does not claim the slot
says that the source has let go of it: also an old one, from before the source had it. The importer
then makes the slot its own at once, before its keys have come.
"""

from __future__ import annotations

import secrets

import hiredis

from redisutils.errors import ConnectFailed

from ._asking import Deadline, Word, ask, opened, reply_of
from .server import EmbeddedServer

__all__ = ["wait_until_heard"]

# How long a message that was published is waited for, s, before it is published once more: a node
# drops it when the link is not there just then.
_PATIENCE = 0.5


def wait_until_heard(speaker: EmbeddedServer, listener: EmbeddedServer, deadline: Deadline) -> None:
    """Wait until ``listener`` has heard all that ``speaker`` has said on the bus before; blocking.

    A published message goes the same way, in order, to subscribers of all nodes. This one has a
    channel of its own; who is subscribed to the pattern ``*`` sees it, too.
    """
    channel = f"redisutils:heard:{secrets.token_hex(8)}"
    subscribe: list[list[Word]] = [["SUBSCRIBE", channel]]
    if listener.password:
        subscribe.insert(0, ["AUTH", listener.password])
    reader = hiredis.Reader(encoding="utf-8", errors="replace")
    try:
        with opened(listener, subscribe) as connection:
            for _ in subscribe:
                reply_of(connection, reader)
            connection.settimeout(_PATIENCE)

            def missing() -> str | None:
                ask(speaker, "PUBLISH", channel, "")
                try:
                    reply_of(connection, reader)
                except TimeoutError:
                    return f"port {listener.port} does not hear what port {speaker.port} says"
                return None

            deadline.wait_until(missing)
    except OSError as error:
        raise ConnectFailed(f"the server on port {listener.port} does not answer") from error
