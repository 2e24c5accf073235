"""A :class:`RedisConfig`'s settings, in our terms: how to connect, and the pool's figures.

What redis-py's arguments mean in the same terms stands in :mod:`redisutils.client.arguments`.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import TYPE_CHECKING

from redisutils.client.arguments import LIBRARY
from redisutils.client.plans import plan_of, sentinel_login
from redisutils.connection.options import ConnectOptions
from redisutils.connection.tls import TLSFiles
from redisutils.pool.pool import QueueMode, Timeouts
from redisutils.pool.settings import PoolSettings
from redisutils.retry import Backoff, RetryMode, RetryPolicy
from redisutils.topology.plan import Plan, Reading

if TYPE_CHECKING:
    import ssl

    from redisutils.config import RedisConfig

__all__ = ["connect_options", "plan", "pool_settings"]


def connect_options(
    config: RedisConfig,
    context: ssl.SSLContext | None,
    library: tuple[str, str] | None = LIBRARY,
) -> ConnectOptions:
    """How to connect; of many servers, to each but for its place, which is the first one's here.

    Args:
        context: stands in for the ``tls_…`` files.
        library: name and version for CLIENT SETINFO; None says nothing.
    """

    async def credentials() -> tuple[str, ...]:
        password = config.current_password()
        if password is None and config.username is None:
            return ()
        if config.username is None:
            return (password or "",)
        return (config.username, password or "")

    tls: Callable[[], ssl.SSLContext] | None = None
    if context is not None:
        tls = _always(context)
    elif config.tls_enabled:
        tls = TLSFiles(
            config.tls_cert_path,
            config.tls_key_path,
            config.tls_ca_path,
            check_hostname=config.tls_check_hostname,
        )
    host, port = config.seeds[0]
    return ConnectOptions(
        host=host,
        port=port,
        path=config.unix_socket_path,
        database=config.database,
        credentials=credentials,
        client_name=config.client_name or None,
        timeout=config.connection_timeout,
        tls=tls,
        library=library,
    )


def plan(config: RedisConfig, options: ConnectOptions) -> Plan | None:
    """Many servers, or None for one.

    Args:
        options: how to connect to them, as :func:`connect_options` has it.
    """
    reading = Reading(
        source=config.read_from,
        max_lag=config.read_max_lag_seconds or inf,
        zone=config.read_zone,
        own_writes=config.read_own_writes_seconds,
        hedge=config.read_hedge,
    )
    password = config.sentinel_password
    return plan_of(
        config.mode,
        config.seeds,
        options,
        master=config.sentinel_master,
        login=sentinel_login(
            config.sentinel_username, None if password is None else password.get_secret_value()
        ),
        addresses=dict(config.address_map),
        reading=reading,
    )


def pool_settings(
    config: RedisConfig, timeouts: Timeouts | None, queue_mode: QueueMode
) -> PoolSettings:
    """The pool's figures.

    Args:
        timeouts: stand in for ``pool_timeout``, ``connection_timeout`` and ``command_timeout``.
    """
    mode: RetryMode = config.retry
    return PoolSettings(
        max_size=config.pool_max_size,
        min_idle=config.pool_min_idle,
        max_idle=config.pool_max_idle_seconds or inf,
        max_lifetime=config.pool_max_lifetime_seconds or inf,
        timeouts=timeouts
        or Timeouts(
            wait=config.wait_timeout,
            create=config.connection_timeout,
            recycle=config.command_timeout,
        ),
        queue_mode=queue_mode,
        command_timeout=config.command_timeout,
        retry=RetryPolicy(
            mode,
            config.max_retries,
            Backoff(config.retry_delay_ms / 1000, config.retry_max_delay_ms / 1000),
        ),
        health_check_interval=config.health_check_interval or inf,
        circuit_breaker=config.circuit_breaker_seconds or inf,
        plain_keys=config.slow_log_keys == "plain",
    )


def _always(context: ssl.SSLContext) -> Callable[[], ssl.SSLContext]:
    """What is asked at each connect, and answers the same."""
    return lambda: context
