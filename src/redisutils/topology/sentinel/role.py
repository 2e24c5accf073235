"""Whether a server is a primary, by its own word."""

from __future__ import annotations

from typing import Any, Final

from redis.exceptions import NoPermissionError, ResponseError

from redisutils.connection.packing import OwnPayload, pack_many
from redisutils.connection.protocol import Connection
from redisutils.connection.words import cut
from redisutils.errors import ConnectFailed, code_of
from redisutils.topology.facts import MOST, Info

__all__ = ["prove_primary"]

_ROLE: Final = OwnPayload(pack_many([("ROLE",)]))
_INFO: Final = OwnPayload(pack_many([("INFO", "replication")]))


async def prove_primary(connection: Connection, patience: float) -> None:
    """Ask for its role (https://valkey.io/commands/role/): ROLE, or INFO for a user who may not.

    Args:
        patience: seconds for each answer.

    Raises:
        ConnectFailed: it is none, or does not say. ``elsewhere`` is set if it may become one.
        ConnectionLost, CommandTimeout
    """
    [told] = await connection.submit_many(_ROLE, 1, True, patience)
    role = told[0] if isinstance(told, list) and told else told
    if isinstance(told, NoPermissionError) or _unknown(told):
        [told] = await connection.submit_many(_INFO, 1, True, patience)
        role = Info(told[:MOST]).role if isinstance(told, str) else told
    if role in ("master", "primary"):
        return
    if isinstance(role, NoPermissionError):
        raise ConnectFailed(
            f"{connection.peer}: its user may use neither ROLE nor INFO, and without one of them "
            "nobody can tell whether it is the primary: grant +role (ACL SETUSER … +role)",
            fatal=True,
        )
    if role in ("slave", "replica"):
        raise _no_primary(f"{connection.peer} is a replica, and not the primary: a failover is on")
    raise _no_primary(f"{connection.peer} does not say whether it is the primary: {_shown(told)}")


def _no_primary(message: str) -> ConnectFailed:
    error = ConnectFailed(message)
    error.elsewhere = True
    return error


def _unknown(told: Any) -> bool:
    """Some proxies and services know no ROLE."""
    return isinstance(told, ResponseError) and code_of(told) == "ERR"


def _shown(told: Any) -> str:
    return cut(str(told) if isinstance(told, Exception) else repr(told))
