"""OpenTelemetry: what a pool counts as metrics, and a span for each command.

::

    with instrument(pool):  # with the providers that the program has set
        ...

Three kinds of figures go out:

* What the conventions for database clients know, under their names: the duration of each
  operation, the pool's connections, how long they took to be had.
* All that :mod:`redisutils.monitor.catalogue` has beyond them, under ``redisutils.``, observed
  when it is asked for: see :mod:`redisutils.monitor.instruments`.
* Spans: see :mod:`redisutils.monitor.tracing`.

The first and the last look at each command, which costs some 10 µs and the short way on which
answers are handed over otherwise; without them (``commands=False``) nothing is paid for but the
asking.
"""

from __future__ import annotations

from types import TracebackType
from typing import Final, Self

from redisutils.client.redis_pool import RedisPool
from redisutils.monitor.reading import Reader, Reading
from redisutils.version import VERSION

try:
    from opentelemetry import trace
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from redisutils.monitor.instruments import SCHEMA, SCOPE, Instruments
    from redisutils.monitor.samples import valid
    from redisutils.monitor.tracing import Attributes, Tracing
except ImportError as error:
    raise ImportError(
        "redisutils.monitor.otel needs opentelemetry-api: pip install 'redisutils[otel]'"
    ) from error

__all__ = ["Instrumentation", "instrument"]

_FRESH: Final = 0.05
"""Seconds for which a snapshot will do: the instruments of one collection are asked one by one."""


def instrument(
    pool: RedisPool,
    *,
    meter_provider: MeterProvider | None = None,
    tracer_provider: TracerProvider | None = None,
    name: str | None = None,
    commands: bool = True,
    query_text: bool = False,
) -> Instrumentation:
    """Let OpenTelemetry see a pool that is open, until :meth:`Instrumentation.uninstrument`.

    Clients, lanes and views that exist already are seen as well; of the connections checked out
    at this moment only the next checkout.

    Args:
        pool: to be called in its event loop.
        meter_provider, tracer_provider: instead of the program's, those set globally.
        name: the pool's, ``db.client.connection.pool.name``; by default ``host:port/database``.
        commands: whether to look at each command: ``db.client.operation.duration``, and spans.
        query_text: whether spans hold ``db.query.text``: commands with their keys, and ``?`` for
            every value. Messages of error replies, which may quote both, are told then as well.

    Raises:
        ConfigError: the pool is instrumented already, or another one of this name.
        PoolClosed, WrongLoop
    """
    return Instrumentation(
        pool,
        Instruments.of(meter_provider),
        trace.get_tracer(SCOPE, VERSION, tracer_provider, SCHEMA),
        name,
        commands=commands,
        query_text=query_text,
    )


class Instrumentation:
    """A pool that OpenTelemetry sees. Made by :func:`instrument`; as a context manager it ends with
    its block."""

    def __init__(
        self,
        pool: RedisPool,
        instruments: Instruments,
        tracer: trace.Tracer,
        name: str | None,
        *,
        commands: bool,
        query_text: bool,
    ) -> None:
        server = pool.server
        server.check_usable()
        options = server.options
        self._server: Attributes = {"server.address": valid(options.path or options.host)}
        if options.path is None:
            self._server["server.port"] = options.port
        self.name = valid(f"{options.peer}/{options.database}" if name is None else name)
        """The pool's, as metrics have it."""
        self._pool: RedisPool | None = pool
        self._instruments = instruments
        instruments.add(self)
        self._tracing: Tracing | None = None
        if commands:
            named: Attributes = {"db.client.connection.pool.name": self.name}
            self._tracing = Tracing(
                tracer,
                instruments.duration,
                lambda seconds: instruments.create_time.record(seconds, named),
                lambda seconds: instruments.wait_time.record(seconds, named),
                lambda seconds: instruments.use_time.record(seconds, named),
                {
                    "db.system.name": "redis",
                    "db.namespace": str(options.database),
                    **self._server,
                },
                query_text=query_text,
            )
            server.observe(self._tracing)

    def uninstrument(self) -> None:
        """End it; a second call does nothing. To be called in the pool's event loop, or when that
        has ended. Spans of commands in flight are ended by their answers."""
        pool, self._pool = self._pool, None
        self._instruments.remove(self)
        if pool is not None and self._tracing is not None:
            pool.server.observe(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.uninstrument()

    @property
    def pool(self) -> RedisPool | None:
        """What is seen; None when it is over."""
        return self._pool

    def read(self) -> Reading | None:
        """The pool's figures."""
        pool = self._pool
        return None if pool is None else Reader.of(pool).read(fresh_for=_FRESH)

    def attributes(self) -> Attributes:
        """Of the metrics that are our own."""
        return {**self._server, "db.client.connection.pool.name": self.name}
