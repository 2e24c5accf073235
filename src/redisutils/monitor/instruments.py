"""The OpenTelemetry instruments of one meter provider, for all the pools that report to it.

OpenTelemetry has no instrument for a histogram that is kept already, and to record what we have
measured once more would count a sample as the whole. So those of the catalogue go out as counters:
``….bucket``, cumulative by ``le`` as in Prometheus, and ``….sum``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Final, Protocol, TypeAlias
from weakref import WeakKeyDictionary

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from redisutils.client.redis_pool import RedisPool
from redisutils.errors import ConfigError
from redisutils.metrics import LatencySnapshot
from redisutils.monitor.catalogue import BUCKETS, CATALOGUE
from redisutils.monitor.described import Described
from redisutils.monitor.reading import Reading
from redisutils.monitor.tracing import Attributes
from redisutils.version import VERSION

__all__ = ["SCHEMA", "SCOPE", "Instruments", "Seen"]

SCOPE: Final = "redisutils"
SCHEMA: Final = "https://opentelemetry.io/schemas/1.44.0"

_DURATION_BOUNDS: Final = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 10.0)
"""The conventions' own. A view can choose others."""

_ATTRIBUTES: Final = {
    "command": "db.operation.name",
    "code": "db.response.status_code",
    "error": "error.type",
    "outcome": "redisutils.outcome",
    "reason": "redisutils.retry.reason",
    "part": "redisutils.part",
    "lane": "redisutils.lane",
    "node": "redisutils.node",
    "state": "redisutils.breaker.state",
}
"""What the labels of the catalogue are called here."""

_UNITS: Final = {"seconds": "s", "bytes": "By", "": "1"}


class Seen(Protocol):
    """A pool that reports."""

    @property
    def name(self) -> str:
        """The pool's."""

    @property
    def pool(self) -> RedisPool | None:
        """The pool itself, until it reports no more."""

    def read(self) -> Reading | None:
        """Its figures, if there are any."""

    def attributes(self) -> Attributes:
        """What the metrics have that no convention knows."""


Observed: TypeAlias = Iterable[tuple[float, Attributes]]
Observe: TypeAlias = Callable[[Seen, Reading], Observed]


class Instruments:
    """See the module's docstring. An instrument is made once, and cannot be taken back: pools come
    and go instead.

    Args:
        provider: None for the one that is set globally, now or later.
    """

    def __init__(self, provider: MeterProvider | None) -> None:
        self._seen: list[Seen] = []
        meter = self._meter = metrics.get_meter(SCOPE, VERSION, provider, SCHEMA)
        self.duration = meter.create_histogram(
            "db.client.operation.duration",
            "s",
            "Duration of database client operations.",
            explicit_bucket_boundaries_advisory=_DURATION_BOUNDS,
        )
        self.create_time, self.wait_time, self.use_time = (
            meter.create_histogram(
                f"db.client.connection.{what}_time",
                "s",
                text,
                explicit_bucket_boundaries_advisory=BUCKETS,
            )
            for what, text in (
                ("create", "The time it took to create a new connection."),
                ("wait", "The time it took to obtain an open connection from the pool."),
                ("use", "The time between borrowing a connection and returning it to the pool."),
            )
        )
        for name, unit, text, observe in _CONVENTIONAL:
            meter.create_observable_up_down_counter(name, [self._asked(observe)], unit, text)
        meter.create_observable_counter(
            "db.client.connection.timeouts",
            [self._asked(_timeouts)],
            "{timeout}",
            "The number of connection timeouts that have occurred trying to obtain a connection "
            "from the pool.",
        )
        for each in CATALOGUE:
            if each.otel is not None:
                self._create(each, each.otel)

    @classmethod
    def of(cls, provider: MeterProvider | None) -> Instruments:
        """Those of ``provider``, or of the global one, whatever stands in for that now."""
        if provider is None or provider is metrics.get_meter_provider():
            if not _global:
                _global.append(cls(None))
            return _global[0]
        found = _known.get(provider)
        if found is None:
            found = _known[provider] = cls(provider)
        return found

    def add(self, seen: Seen) -> None:
        """Let a pool report.

        Raises:
            ConfigError: it does already, or another one of its name.
        """
        for other in self._seen:
            if other.pool is seen.pool:
                raise ConfigError(
                    f"the pool {other.name!r} is instrumented already: uninstrument() it first"
                )
            if other.name == seen.name and other.pool is not None and not other.pool.closed:
                raise ConfigError(
                    f"another pool is instrumented as {seen.name!r}, and they could not be told "
                    "apart: give this one a name of its own, such as instrument(pool, "
                    "name='orders')"
                )
        # A closed one of this name is replaced.
        self._seen = [*(other for other in self._seen if other.name != seen.name), seen]

    def remove(self, seen: Seen) -> None:
        """It reports no more."""
        self._seen = [other for other in self._seen if other is not seen]

    def _asked(self, observe: Observe) -> Callable[[CallbackOptions], Iterator[Observation]]:
        """What the meter calls when it collects."""

        def callback(_: CallbackOptions) -> Iterator[Observation]:
            for seen in self._seen:
                reading = seen.read()
                if reading is not None:
                    for value, attributes in observe(seen, reading):
                        yield Observation(value, attributes)

        return callback

    def _create(self, each: Described, name: str) -> None:
        """The instruments for one metric of the catalogue."""
        unit = _UNITS[each.unit]
        if each.kind == "histogram":
            self._meter.create_observable_counter(
                f"{name}.bucket", [self._asked(_buckets(each))], "1", f"{each.text} Cumulative."
            )
            self._meter.create_observable_counter(
                f"{name}.sum", [self._asked(_sums(each))], unit, f"{each.text} In all."
            )
            return
        create = (
            self._meter.create_observable_counter
            if each.kind == "counter"
            else self._meter.create_observable_gauge
        )
        create(name, [self._asked(_values(each))], unit, each.text)


_known: Final[WeakKeyDictionary[MeterProvider, Instruments]] = WeakKeyDictionary()
_global: Final[list[Instruments]] = []


def _labelled(each: Described, seen: Seen, values: tuple[str, ...]) -> Attributes:
    names = (_ATTRIBUTES[label] for label in each.labels)
    return {**seen.attributes(), **dict(zip(names, values, strict=True))}


def _values(each: Described) -> Observe:
    def observe(seen: Seen, reading: Reading) -> Observed:
        for values, value in each.read(reading):
            assert not isinstance(value, LatencySnapshot)
            yield value, _labelled(each, seen, values)

    return observe


def _buckets(each: Described) -> Observe:
    def observe(seen: Seen, reading: Reading) -> Observed:
        for values, value in each.read(reading):
            assert isinstance(value, LatencySnapshot)
            attributes = _labelled(each, seen, values)
            for bound, count in zip(BUCKETS, value.at_most(BUCKETS), strict=True):
                yield count, {**attributes, "le": repr(bound)}
            yield value.count, {**attributes, "le": "+Inf"}

    return observe


def _sums(each: Described) -> Observe:
    def observe(seen: Seen, reading: Reading) -> Observed:
        for values, value in each.read(reading):
            assert isinstance(value, LatencySnapshot)
            yield value.total, _labelled(each, seen, values)

    return observe


def _of_the_pool(
    read: Callable[[Seen, Reading], Observed],
) -> Observe:
    """Observations that have the pool's name and no more than ``read`` gives them."""

    def observe(seen: Seen, reading: Reading) -> Observed:
        for value, attributes in read(seen, reading):
            yield value, {"db.client.connection.pool.name": seen.name, **attributes}

    return observe


def _count(_: Seen, reading: Reading) -> Observed:
    snapshot = reading.snapshot
    used = min(snapshot.in_use, snapshot.size)  # some are on their way, and not made yet
    yield used, {"db.client.connection.state": "used"}
    yield snapshot.size - used, {"db.client.connection.state": "idle"}


def _least(seen: Seen, _: Reading) -> Observed:
    pool = seen.pool
    if pool is not None:
        yield pool.server.settings.min_idle, {}


@_of_the_pool
def _timeouts(_: Seen, reading: Reading) -> Observed:
    failures = reading.snapshot.failures
    yield sum(count for (error, _), count in failures.items() if error == "PoolTimeout"), {}


_CONVENTIONAL: Final[tuple[tuple[str, str, str, Observe], ...]] = (
    (
        "db.client.connection.count",
        "{connection}",
        "The number of connections that are currently in state described by the state attribute.",
        _of_the_pool(_count),
    ),
    (
        "db.client.connection.idle.min",
        "{connection}",
        "The minimum number of idle open connections allowed.",
        _of_the_pool(_least),
    ),
    (
        "db.client.connection.max",
        "{connection}",
        "The maximum number of open connections allowed.",
        _of_the_pool(lambda _, reading: ((reading.snapshot.max_size, {}),)),
    ),
    (
        "db.client.connection.pending_requests",
        "{request}",
        "The number of current pending requests for an open connection.",
        _of_the_pool(lambda _, reading: ((reading.snapshot.waiting, {}),)),
    ),
)
