"""What settings must be to each other, when each is right by itself."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any, Final

from redisutils.settings import PREFIX, Layer
from redisutils.url import ServerUrl

__all__ = ["cross_checks"]

_ORDERED: Final = (("pool_min_idle", "pool_max_size"), ("retry_delay_ms", "retry_max_delay_ms"))
_TLS_OFF: Final = "TLS is off; set REDIS_TLS_ENABLED=true or use rediss://"
_SENTINEL: Final = ("sentinel_master", "sentinel_username", "sentinel_password")
_READING: Final = ("read_max_lag_seconds", "read_zone", "read_own_writes_seconds", "read_hedge")
_MANY: Final = ("nodes", "address_map", "read_from", *_READING)


def cross_checks(
    values: Mapping[str, Any], given: Layer, url: ServerUrl | None, wrong: Collection[str]
) -> Iterator[str]:
    """What is wrong, in words.

    Args:
        values: every setting.
        given: those that were given, for their names and how they are shown.
        url: where one was given that is right.
        wrong: settings that are wrong by themselves; nothing is said of them here.
    """
    found = _Settings(values, given, set(wrong))
    for low, high in _ORDERED:
        if found.right(low, high) and values[low] > values[high]:
            yield f"{found[low]}: must not be more than {found[high]}"
    if values["password"] is not None and values["password_file"] is not None:
        yield f"{found['password']} and {found['password_file']}: set one of them"
    local = url is not None and (url.embedded or url.path is not None)
    yield from _tls(found, local)
    if found.right("mode", "url"):
        yield from _servers(found, local)


class _Settings:
    """The values, and how to name one: as it was given, or as the default that it is."""

    def __init__(self, values: Mapping[str, Any], given: Layer, wrong: set[str]) -> None:
        self.values = values
        self._given = given
        self._wrong = wrong

    def __getitem__(self, name: str) -> str:
        if name in self._given:
            return str(self._given[name])
        return f"{PREFIX}{name.upper()}={self.values[name]} (the default)"

    def right(self, *names: str) -> bool:
        """Whether none of them is wrong by itself."""
        return self._wrong.isdisjoint(names)

    def set(self, *names: str) -> Iterator[str]:
        """Those of them that are right and say something: off, none and 0 say nothing."""
        for name in names:
            value = self.values[name]
            if self.right(name) and value and not (name == "read_from" and value == "primary"):
                yield self[name]


def _tls(found: _Settings, local: bool) -> Iterator[str]:
    values = found.values
    files = ("tls_cert_path", "tls_key_path")
    for one, other in (files, files[::-1]):
        if found.right(*files) and values[one] and not values[other]:
            yield f"{found[one]}: needs {PREFIX}{other.upper()} too"
    if local and values["tls_enabled"]:
        yield f"{found['tls_enabled']}: there is no TLS on {found['url']}"
    if found.right("tls_enabled", "url") and not values["tls_enabled"]:
        for name in (*files, "tls_ca_path"):
            if values[name]:
                yield f"{found[name]}: {_TLS_OFF}"
        if not values["tls_check_hostname"]:
            yield f"{found['tls_check_hostname']}: {_TLS_OFF}"


def _servers(found: _Settings, local: bool) -> Iterator[str]:
    """One server, or many: what belongs to the one means nothing to the others."""
    values, mode = found.values, found.values["mode"]
    if local and mode != "standalone":
        yield f"{found['mode']}: there is one server alone on {found['url']}"
        return
    if mode == "standalone":
        for name in found.set(*_MANY):
            yield (
                f"{name}: means nothing to one server; set REDIS_MODE to sentinel or cluster, "
                "or use redis+sentinel:// or redis+cluster://"
            )
    if mode != "sentinel":
        for name in found.set(*_SENTINEL):
            yield f"{name}: means nothing without sentinels; set REDIS_MODE=sentinel"
    elif values["sentinel_master"] is None and found.right("sentinel_master"):
        yield (
            f"{found['mode']}: needs REDIS_SENTINEL_MASTER, the name of the primary as the "
            "sentinels have it"
        )
