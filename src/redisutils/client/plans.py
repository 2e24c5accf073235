"""Many servers behind a client: a plan, from settings or from the arguments of ``Redis(…)``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast, get_args

from redisutils.address import (
    CLUSTER_PORT,
    SENTINEL_PORT,
    Address,
    AddressMap,
    address_pairs,
    addresses,
)
from redisutils.connection.options import ConnectOptions, Credentials, Dialect
from redisutils.errors import ConfigError
from redisutils.secret import hidden
from redisutils.topology.plan import ClusterPlan, Plan, ReadFrom, Reading, SentinelPlan

__all__ = ["ARGUMENTS", "plan_from", "plan_of", "sentinel_login"]

ARGUMENTS: Final = frozenset(
    """mode nodes sentinel_master sentinel_username sentinel_password address_map
    read_from""".split()
)
"""What ``Redis(…)`` takes beyond redis-py's arguments to reach many servers, by the names that
:class:`redisutils.RedisConfig` has for them."""

_MODES: Final = ("standalone", "sentinel", "cluster")


def plan_of(
    mode: str,
    seeds: Sequence[Address],
    options: ConnectOptions,
    *,
    master: str | None,
    login: Credentials,
    addresses: AddressMap,
    reading: Reading,
) -> Plan | None:
    """The plan of a mode; None for one server.

    Args:
        seeds: the sentinels, or nodes of the cluster, to ask first.
        options: how to connect to the servers. Sentinels are connected to in the same way, TLS
            included, but for the database and the login.
        login: at the sentinels.
    """
    if mode == "cluster":
        return ClusterPlan(tuple(seeds), addresses, reading)
    if mode != "sentinel" or master is None:
        return None
    sentinels = (
        replace(
            options,
            host=host,
            port=port,
            database=0,
            credentials=login,
            dialect=Dialect(),
            settings="REDIS_SENTINEL",
        )
        for host, port in seeds
    )
    return SentinelPlan(tuple(sentinels), master, addresses, reading)


def sentinel_login(username: str | None, password: str | None) -> Credentials:
    """User and password at the sentinels: never the servers' own, which are none of theirs."""
    secret = hidden(password)

    async def credentials() -> tuple[str, ...]:
        if username is not None:
            return (username, secret or "")
        return () if secret is None else (secret,)

    return credentials


def plan_from(kwargs: Mapping[str, Any], options: ConnectOptions) -> Plan | None:
    """The plan in a client's arguments, of which those not in :data:`ARGUMENTS` are passed over.

    Raises:
        ConfigError: one of them is wrong, or means nothing to the others.
    """
    mode = kwargs.get("mode") or "standalone"
    if mode not in _MODES:
        raise ConfigError(f"mode={mode!r} must be one of {', '.join(_MODES)}")
    given = [name for name in sorted(ARGUMENTS - {"mode"}) if kwargs.get(name)]
    useless = [
        name
        for name in given
        if mode == "standalone" or (mode == "cluster" and name.startswith("sentinel_"))
    ]
    if useless:
        raise ConfigError(f"{', '.join(useless)}: means nothing with mode={mode!r}")
    if mode == "standalone":
        return None
    if options.path is not None:
        raise ConfigError(
            f"mode={mode!r} means nothing to a Unix socket, where one server is alone"
        )
    master = kwargs.get("sentinel_master")
    if mode == "sentinel" and not master:
        raise ConfigError("mode='sentinel' needs sentinel_master, the name of the primary")
    source = kwargs.get("read_from") or "primary"
    if source not in get_args(ReadFrom):
        raise ConfigError(f"read_from={source!r} must be one of {', '.join(get_args(ReadFrom))}")
    port = SENTINEL_PORT if mode == "sentinel" else CLUSTER_PORT
    seeds: tuple[Address, ...] = ()
    pairs: tuple[tuple[Address, Address], ...] = ()
    name, wrong = "nodes", ""
    try:
        seeds = addresses(kwargs.get(name), port)
        name = "address_map"
        pairs = address_pairs(kwargs.get(name))
    except ValueError as error:
        wrong = str(error)
    if wrong:  # outside: the parsers' frames hold what was given, a password perhaps
        raise ConfigError(f"{name}: {wrong}")
    return plan_of(
        mode,
        seeds or (Address(options.host, int(kwargs.get("port", port))),),
        options,
        master=master,
        login=sentinel_login(kwargs.get("sentinel_username"), kwargs.get("sentinel_password")),
        addresses=dict(pairs),
        reading=Reading(source=cast(ReadFrom, source)),
    )
