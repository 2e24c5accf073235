"""Metrics for Prometheus: a collector for ``prometheus_client``, and ``/metrics`` as bytes.

::

    REGISTRY.register(PoolCollector(pool))  # beside the program's own metrics
    body, content_type = exposition(pool)  # or on their own, for a handler of /metrics

What is exported is in :mod:`redisutils.monitor.catalogue`; nothing is counted for it that is not
counted anyway. A scrape may come in any thread: see :mod:`redisutils.monitor.reading`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final

from redisutils.client.redis_pool import RedisPool
from redisutils.errors import ConfigError
from redisutils.metrics import LatencySnapshot
from redisutils.monitor.catalogue import BUCKETS, CATALOGUE
from redisutils.monitor.described import Described
from redisutils.monitor.reading import Reader, Reading
from redisutils.monitor.samples import valid
from redisutils.monitor.text import BOUNDS, OPENMETRICS, PLAIN, Place, text_of

try:
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        Metric,
    )
except ImportError as error:
    raise ImportError(
        "redisutils.monitor.prometheus needs prometheus-client: "
        "pip install 'redisutils[prometheus]'"
    ) from error

__all__ = ["PoolCollector", "exposition"]

_NO_LABELS: Final[Mapping[str, str]] = MappingProxyType({})
_OURS: Final = {"endpoint", "le", *(label for each in CATALOGUE for label in each.labels)}
_LABEL: Final = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*")


class PoolCollector:
    """Pools as ``prometheus_client`` asks for them: ``registry.register(PoolCollector(pool))``.

    Each metric has the label ``endpoint``. A pool that is not open yet has no samples; one that is
    closed keeps its last ones. Registries know metrics by their names: for several pools register
    one collector, and :meth:`add` to it.

    Args:
        pools: whose metrics are collected.
        labels: further labels of all they tell, such as ``{"pool": "orders"}``.

    Raises:
        ConfigError: see :meth:`add`.
    """

    def __init__(self, *pools: RedisPool, labels: Mapping[str, str] = _NO_LABELS) -> None:
        self._pools: dict[RedisPool, Mapping[str, str]] = {}
        self.add(*pools, labels=labels)

    def add(self, *pools: RedisPool, labels: Mapping[str, str] = _NO_LABELS) -> None:
        """Collect of these pools, too, under further labels.

        Raises:
            ConfigError: a label's name is no name or one of ours, or an open pool of the same
                endpoint has the same labels.
        """
        for label in labels:
            if label in _OURS or not _LABEL.fullmatch(label):
                raise ConfigError(
                    f"labels={dict(labels)!r}: {label!r} cannot be a label's name: choose another "
                    "of letters, digits and underscores, such as 'pool'"
                )
        known = dict(self._pools)
        for pool in pools:
            known.pop(pool, None)
            for other, others in list(known.items()):
                if _endpoint(other) != _endpoint(pool) or others != labels:
                    continue
                if not other.closed:
                    raise ConfigError(
                        f"two pools of {pool.config.endpoint} have the labels {dict(labels)!r} "
                        "and could not be told apart: add one of them with labels of its own, "
                        'such as labels={"pool": "orders"}'
                    )
                del known[other]  # the new one takes its place
            known[pool] = dict(labels)
        self._pools = known  # at once: a scrape in another thread may be under way

    def remove(self, pool: RedisPool) -> None:
        """Collect of it no more."""
        self._pools = {each: labels for each, labels in self._pools.items() if each is not pool}

    def describe(self) -> Iterable[Metric]:
        """What :meth:`collect` gives, without samples: a registry asks for the names."""
        return [_family(each, ()) for each in CATALOGUE]

    def collect(self) -> Iterator[Metric]:
        """Every metric with its samples. A snapshot of each pool is taken before the first."""
        found = self.read()
        labels = tuple(dict.fromkeys(label for place, _ in found for label, _ in place))
        for each in CATALOGUE:
            family = _family(each, labels)
            for place, reading in found:
                has = dict(place)
                common = tuple(has.get(label, "") for label in labels)  # an empty one is none
                for values, value in each.read(reading):
                    _add(family, each, common, values, value)
            yield family

    def read(self) -> list[tuple[Place, Reading]]:
        """A snapshot of each pool that has been open, and the labels of what it tells."""
        found: list[tuple[Place, Reading]] = []
        for pool, labels in self._pools.items():
            reading = Reader.of(pool).read()
            if reading is not None:
                place = (("endpoint", _label(pool, reading.snapshot.endpoint)), *labels.items())
                told = tuple((label, valid(value)) for label, value in place)
                found.append((told, reading))
        return found


def exposition(*pools: RedisPool, accept: str = "") -> tuple[bytes, str]:
    """The answer to a scrape: its body, and its content type.

    Args:
        pools: of different endpoints; for others see :class:`PoolCollector`.
        accept: the request's ``Accept``: OpenMetrics if that is named there, else Prometheus' text.

    Raises:
        ConfigError: two pools have the same endpoint.
    """
    openmetrics = "application/openmetrics-text" in accept
    body = text_of(PoolCollector(*pools).read(), openmetrics=openmetrics)
    return body, OPENMETRICS if openmetrics else PLAIN


def _endpoint(pool: RedisPool) -> object:
    """What tells its metrics from another pool's. Each embedded server is one of its own."""
    return pool if pool.config.embedded else _label(pool, pool.config.endpoint)


def _label(pool: RedisPool, endpoint: str) -> str:
    """A cluster is called so: its seeds may be others in each process, and come and go."""
    return "cluster" if pool.config.mode == "cluster" else endpoint


_KINDS: Final[Mapping[str, Callable[..., Metric]]] = {
    "counter": CounterMetricFamily,
    "gauge": GaugeMetricFamily,
    "histogram": HistogramMetricFamily,
}


def _family(each: Described, place: tuple[str, ...]) -> Metric:
    """``each`` without samples; ``place`` are the labels that all metrics have."""
    if each.kind == "info":
        return InfoMetricFamily(each.name, each.text, labels=place)
    return _KINDS[each.kind](each.name, each.text, labels=(*place, *each.labels), unit=each.unit)


def _add(
    family: Metric,
    each: Described,
    place: tuple[str, ...],
    values: tuple[str, ...],
    value: float | LatencySnapshot,
) -> None:
    """Add a sample of ``each``: with the values of the common labels, and of its own."""
    if isinstance(value, LatencySnapshot):
        assert isinstance(family, HistogramMetricFamily)
        counts = (*value.at_most(BUCKETS), value.count)
        buckets = list(zip(BOUNDS, counts, strict=True))
        family.add_metric((*place, *values), buckets, value.total)
    elif isinstance(family, InfoMetricFamily):
        family.add_metric(place, dict(zip(each.labels, values, strict=True)))
    else:
        assert isinstance(family, CounterMetricFamily | GaugeMetricFamily)
        family.add_metric((*place, *values), value)
