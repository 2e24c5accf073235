"""What the steps have learnt so far, each for those after it."""

from __future__ import annotations

import asyncio
import ipaddress
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

from redis.exceptions import ResponseError

from redisutils import Redis, RedisConfig, RedisPool
from redisutils.cli.check.asking import NotAsked, Permissions
from redisutils.cli.check.finding import Finding
from redisutils.cli.loading import Loaded
from redisutils.connection.options import ConnectOptions
from redisutils.topology.cluster.map import Member

__all__ = ["Case", "cannot"]


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
    trying: bool = False
    """Whether what may be refused is tried, where the server does not say beforehand."""
    addresses: list[str] = field(default_factory=list)
    """The host's, in the order in which they are tried."""
    many: RedisConfig | None = None
    """The configuration as it was given, when it names several servers: ``config`` is of one of
    them, then, once ``seeds`` has found one."""
    members: list[Member] = field(default_factory=list)
    """Those servers, as far as they are known: ``topology`` finds them."""
    told: list[Finding] = field(default_factory=list)
    """What was found so far."""
    address: str = ""
    """The first that accepts connections."""
    open_door: bool = False
    """Whether the server obeys those who say no password."""
    pool: RedisPool | None = None
    client: Redis = field(init=False)
    """Decodes. There is one from the step ``login`` on, as of the next."""
    permissions: Permissions = field(init=False)
    hello: dict[str, str] = field(default_factory=dict)
    """What the server says of itself to everybody whom it lets in; empty before Redis 6."""
    info: dict[str, Any] = field(default_factory=dict)
    """INFO; empty when the user may not ask it."""
    no_info: str = ""
    """Why it is empty."""
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
    def user(self) -> str:
        """Who we are, for people."""
        user = self.permissions.user
        return self.asked_user if user == (self.config.username or "default") else user

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

    async def ask(self, *commands: tuple[str, ...], client: Redis | None = None) -> list[Any]:
        """The answers to several commands, issued together, as redis-py shapes them; a refusal
        stands in its place. Raises what else went wrong.

        What the server says beforehand that it would refuse is not issued; neither is that of which
        nobody knows.
        """
        asked = client or self.client

        async def answer_to(command: tuple[str, ...]) -> Any:
            instead = await self.permissions.standing_for(" ".join(command).split())
            if instead is not None:
                return instead
            return await asked.execute_command(*command)

        answers = await asyncio.gather(*map(answer_to, commands), return_exceptions=True)
        for answer in answers:
            if isinstance(answer, BaseException) and not isinstance(answer, ResponseError):
                raise answer
        return list(answers)


def cannot(answer: object) -> str:
    """What is so when this stands in place of an answer: ``this user may not``, or nobody knows."""
    if isinstance(answer, NotAsked):
        return "it cannot be told whether this user may"
    return "this user may not"


def is_loopback(address: str) -> bool:
    """Whether it leads to this machine."""
    try:
        return ipaddress.ip_address(address.partition("%")[0]).is_loopback
    except ValueError:
        return address == "localhost"
