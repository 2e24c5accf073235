"""What the steps have learnt so far, each for those after it."""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from redisutils import Redis, RedisConfig, RedisPool
from redisutils.cli.loading import Loaded
from redisutils.connection.options import ConnectOptions

__all__ = ["Case"]


@dataclass
class Case:
    """See the module's docstring."""

    loaded: Loaded
    timeout: float
    """Seconds for each step."""
    processes: int
    """How many processes use such a pool."""
    key: str
    """A key whose rights are looked at."""
    addresses: list[str] = field(default_factory=list)
    """The host's, in the order in which they are tried."""
    address: str = ""
    """The first that accepts connections."""
    user: str | None = None
    """Who we are, as the server says. None before the login."""
    open_door: bool = False
    """Whether the server obeys those who say no password."""
    pool: RedisPool | None = None
    client: Redis = field(init=False)
    """Decodes. There is one from the step ``login`` on."""
    info: dict[str, Any] = field(default_factory=dict)
    """INFO; empty when the user may not ask it."""
    settings: dict[str, str] = field(default_factory=dict)
    """CONFIG GET; empty when the user may not ask it."""
    closing: AsyncExitStack = field(default_factory=AsyncExitStack)

    @property
    def config(self) -> RedisConfig:
        """The configuration, which the first step found right."""
        assert self.loaded.config is not None
        return self.loaded.config

    @property
    def endpoint(self) -> str | None:
        """The server for people; None when the settings do not say."""
        return self.loaded.config.endpoint if self.loaded.config else None

    @property
    def asked_user(self) -> str:
        """Who we want to be, for people: ``***`` when it may be a password in its place."""
        given = self.loaded.sources.given.get("username")
        if given is not None and given.hidden:
            return "***"
        return self.config.username or "default"

    @property
    def by_hand(self) -> str:
        """``redis-cli`` with what leads it to this server."""
        config = self.config
        place = f"-h {config.host} -p {config.port}"
        if config.unix_socket_path is not None:
            place = f"-s {config.unix_socket_path}"
        words = ["redis-cli", place]
        if config.tls_enabled:
            words.append("--tls")
            if config.tls_ca_path:
                words.append(f"--cacert {config.tls_ca_path}")
            if config.tls_cert_path:
                words.append(f"--cert {config.tls_cert_path} --key {config.tls_key_path}")
        if config.database:
            words.append(f"-n {config.database}")
        return " ".join(words)

    @property
    def networked(self) -> bool:
        """Whether there is a host and a port, rather than a socket's path or a private server."""
        return not self.config.embedded and self.config.unix_socket_path is None

    @property
    def local(self) -> bool:
        """Whether the server is on this machine."""
        return not self.networked or all(map(is_loopback, self.addresses or [self.config.host]))

    def options(self) -> ConnectOptions:
        """How to look at the server's port without saying who we are."""

        async def nobody() -> tuple[str, ...]:
            return ()

        config = self.config
        return ConnectOptions(
            host=config.host, port=config.port, credentials=nobody, timeout=self.timeout
        )

    async def ask(self, *commands: tuple[str, ...]) -> list[Any]:
        """The answers to several commands, issued together, as redis-py shapes them; a refusal
        stands in its place. Raises what else went wrong."""
        calls = (self.client.execute_command(*command) for command in commands)
        answers = await asyncio.gather(*calls, return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, ResponseError):
                raise answer
        return list(answers)


def is_loopback(address: str) -> bool:
    """Whether it leads to this machine."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return address == "localhost"
