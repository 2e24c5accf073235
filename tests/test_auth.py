"""Credentials: shown to the server alone, asked for at each connect, and clear when refused."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import redis
from redis.credentials import CredentialProvider, UsernamePasswordCredentialProvider

from redisutils import (
    AuthenticationFailed,
    ConfigError,
    ConnectFailed,
    Outcome,
    Redis,
    RedisPool,
    create_redis_pool,
    outcome_of,
)
from redisutils.connection.packing import unpack
from redisutils.testing import EmbeddedServer, FaultProxy

from .conftest import StartServer
from .ours import client_at, pool_at, until
from .servers import client_of

SECRET = "s3cr3t-äß/@:"


async def refusal(pool: RedisPool, kind: type[ConnectFailed]) -> ConnectFailed:
    """The error of the first command, for which one attempt was made."""
    async with pool:
        with pytest.raises(kind) as failure:
            await pool.client.get("k")
        assert outcome_of(failure.value) is Outcome.NOT_SENT
        assert failure.value.fatal
        with pytest.raises(kind):
            _ = await pool.get()
        assert pool.metrics().retries == {}
        assert pool.status().size == 0
    return failure.value


# --- taken ---


async def test_a_password_with_everything_in_it(start_server: StartServer) -> None:
    server = await start_server(password=SECRET)
    async with pool_at(server) as pool, client_at(server) as client:
        assert await pool.client.ping()
        assert await client.ping()
    async with create_redis_pool(url=server.url) as pool, Redis.from_url(server.url) as client:
        assert await pool.client.ping()
        assert await client.ping()


@pytest.mark.parametrize("protocol", [2, 3])
async def test_an_acl_user(clean_server: EmbeddedServer, admin: redis.Redis, protocol: int) -> None:
    admin.acl_setuser(
        "alice", enabled=True, passwords=["+wonder"], keys=["*"], categories=["+@all"]
    )
    try:
        user: dict[str, Any] = {"username": "alice", "password": "wonder"}
        async with client_at(clean_server, protocol=protocol, **user) as client:
            assert await client.acl_whoami() in (b"alice", "alice")
        async with pool_at(clean_server, **user) as pool:
            assert await pool.client.acl_whoami() in (b"alice", "alice")
    finally:
        admin.acl_deluser("alice")


async def test_a_user_with_few_rights_can_connect(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """CLIENT SETINFO and the like are a courtesy: without the right to it, it is left out."""
    admin.acl_setuser("bob", enabled=True, passwords=["+b"], keys=["*"], commands=["+get", "+set"])
    try:
        async with pool_at(clean_server, username="bob", password="b") as pool:
            assert await pool.client.get("k") is None
            with pytest.raises(redis.exceptions.NoPermissionError) as failure:
                await pool.client.delete("k")
            assert outcome_of(failure.value) is Outcome.REJECTED
        pool = pool_at(clean_server, username="bob", password="b", database=3)
        error = await refusal(pool, ConnectFailed)
        assert not isinstance(error, AuthenticationFailed)
        assert "may not" in str(error)
        assert "'bob'" in str(error)
        assert "select" in str(error).lower()
    finally:
        admin.acl_deluser("bob")


async def test_a_user_who_may_not_ping_keeps_its_connections(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    """A refusal is an answer: the connection is fit for reuse, unless it still watches keys."""
    rights = ["+get", "+watch", "+unwatch"]
    admin.acl_setuser("dora", enabled=True, passwords=["+d"], keys=["*"], commands=rights)
    try:
        async with pool_at(clean_server, username="dora", password="d", pool_max_size=1) as pool:
            for _ in range(3):
                async with pool.get() as conn:
                    assert await conn.get("k") is None
                    await conn.execute("WATCH", "k")
                conn._lease.item.last_heard -= 10  # not fresh any more: it has to be asked
            assert pool.metrics().connections_created == 1
            admin.acl_setuser("dora", enabled=True, commands=["-unwatch"])
            async with pool.get() as conn:
                await conn.get("k")
            assert pool.metrics().connections_created == 2
    finally:
        admin.acl_deluser("dora")


async def test_a_password_file_is_read_at_each_connect(
    start_server: StartServer, tmp_path: Path
) -> None:
    server = await start_server(password="first")
    file = tmp_path / "password"
    file.write_text("first\n")
    async with pool_at(server, password=None, password_file=file) as pool:
        assert await pool.client.ping()
        with client_of(server.url) as admin:
            admin.config_set("requirepass", "zweites")
            file.write_text("zweites\n")
            admin.client_kill_filter(_type="normal", skipme=True)
        await until(lambda: pool.status().size == 0, "the end of the killed connection")
        assert await pool.client.ping()
        async with pool.get() as conn:
            assert await conn.execute("PING")
        assert "zweites" not in repr(pool.config)


async def test_a_password_is_rotated_under_load(
    clean_server: EmbeddedServer, admin: redis.Redis, tmp_path: Path
) -> None:
    """The server takes both passwords, the file gets the new one, the old one goes."""
    file = tmp_path / "password"
    file.write_text("old")
    admin.acl_setuser("carol", enabled=True, passwords=["+old"], keys=["*"], categories=["+@all"])
    ended = False
    try:
        user: dict[str, Any] = {"username": "carol", "password": None, "password_file": file}
        async with pool_at(clean_server, **user) as pool:

            async def use() -> None:
                while not ended:
                    await pool.client.set("k", "v")
                    async with pool.get() as conn:
                        await conn.execute("GET", "k")

            tasks = [asyncio.ensure_future(use()) for _ in range(4)]
            for old, new in (("old", "new"), ("new", "newer")):
                before = await pool.client.client_id()
                admin.acl_setuser("carol", enabled=True, passwords=[f"+{new}"])
                file.write_text(new)
                admin.acl_setuser("carol", enabled=True, passwords=[f"-{old}"])
                assert await pool.client.client_id() == before  # who is in may stay
                admin.client_kill_filter(_id=str(before))
                assert await pool.client.get("k") == b"v"
                assert await pool.client.client_id() != before
            ended = True
            await asyncio.gather(*tasks)
            assert "AuthenticationFailed" not in pool.metrics().errors
    finally:
        ended = True
        admin.acl_deluser("carol")


async def test_a_user_who_is_taken_away_and_comes_back(
    clean_server: EmbeddedServer, admin: redis.Redis
) -> None:
    rights: dict[str, Any] = {"enabled": True, "keys": ["*"], "categories": ["+@all"]}
    admin.acl_setuser("dave", passwords=["+d4v3"], **rights)
    async with pool_at(clean_server, username="dave", password="d4v3") as pool:
        assert await pool.client.ping()
        admin.acl_deluser("dave")  # and the server closes all connections of the user
        await until(lambda: pool.status().size == 0, "the end of the connection")
        for _ in range(2):
            with pytest.raises(AuthenticationFailed, match="of user 'dave'") as failure:
                await pool.client.incr("k")
            assert outcome_of(failure.value) is Outcome.NOT_SENT
        assert pool.metrics().errors["AuthenticationFailed"] == 2  # one attempt each
        admin.acl_setuser("dave", passwords=["+d4v3"], **rights)
        assert await pool.client.incr("k") == 1
    admin.acl_deluser("dave")


async def test_a_password_file_that_is_gone_is_named(
    clean_server: EmbeddedServer, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text(clean_server.password)
    async with pool_at(clean_server, password=None, password_file=file) as pool:
        file.unlink()
        with pytest.raises((ConfigError, ConnectFailed), match=str(file)):
            await pool.client.ping()


class Rotating(CredentialProvider):
    """Gives another answer at each call."""

    def __init__(self, *passwords: str) -> None:
        self.passwords = list(passwords)
        self.asked = 0

    def get_credentials(self) -> tuple[str]:
        self.asked += 1
        return (self.passwords[min(self.asked, len(self.passwords)) - 1],)


class RotatingLater(Rotating):
    """The same, as a coroutine."""

    async def get_credentials_async(self) -> tuple[str]:
        await asyncio.sleep(0)
        return super().get_credentials()

    def get_credentials(self) -> tuple[str]:
        raise AssertionError("the asynchronous way is there")


@pytest.mark.parametrize("kind", [Rotating, RotatingLater])
async def test_a_credential_provider_is_asked_at_each_connect(
    start_server: StartServer, kind: type[Rotating]
) -> None:
    server = await start_server(password="first")
    provider = kind("first", "second")
    async with client_at(server, password=None, credential_provider=provider) as client:
        first = await client.client_id()
        with client_of(server.url) as admin:
            admin.config_set("requirepass", "second")
            admin.client_kill_filter(_type="normal", skipme=True)
        assert await client.client_id() != first
        assert provider.asked == 2


async def test_redis_pys_own_provider(clean_server: EmbeddedServer) -> None:
    provider = UsernamePasswordCredentialProvider("default", clean_server.password)
    async with client_at(clean_server, password=None, credential_provider=provider) as client:
        assert await client.ping()
        assert clean_server.password not in repr(client)


async def test_a_provider_that_fails(clean_server: EmbeddedServer) -> None:
    class Broken(CredentialProvider):
        def get_credentials(self) -> tuple[str]:
            raise LookupError("the vault is sealed")

    options: dict[str, Any] = {"password": None, "credential_provider": Broken()}
    async with client_at(clean_server, **options) as client:
        quick = client.with_timeout(0.3)
        with pytest.raises((redis.ConnectionError, redis.TimeoutError)) as failure:
            await quick.ping()
        assert "credential provider failed with LookupError: the vault is sealed" in str(
            failure.value
        )
        assert outcome_of(failure.value) is Outcome.NOT_SENT


# --- refused ---


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_wrong_password_is_not_tried_again(
    clean_server: EmbeddedServer, proxy: FaultProxy, protocol: int
) -> None:
    async with client_at(clean_server, proxy, password="wrong-one", protocol=protocol) as client:
        with pytest.raises(AuthenticationFailed) as failure:
            await client.get("k")
    assert proxy.accepted == 1
    assert isinstance(failure.value, redis.AuthenticationError)
    assert isinstance(failure.value, redis.ConnectionError)
    message = str(failure.value)
    assert f"127.0.0.1:{proxy.port} refused the user name or password of user 'default'" in message
    assert "REDIS_PASSWORD" in message
    assert "wrong-one" not in message


async def test_a_wrong_user(clean_server: EmbeddedServer, proxy: FaultProxy) -> None:
    error = await refusal(pool_at(clean_server, proxy, username="nobody"), AuthenticationFailed)
    assert "user 'nobody'" in str(error)
    assert clean_server.password not in str(error)
    assert proxy.accepted == 2  # one each for the command and the checkout


@pytest.mark.parametrize("protocol", [2, 3])
async def test_no_password_where_one_is_wanted(
    clean_server: EmbeddedServer, proxy: FaultProxy, protocol: int
) -> None:
    async with client_at(clean_server, proxy, password=None, protocol=protocol) as client:
        with pytest.raises(AuthenticationFailed, match="wants a password and none is set"):
            await client.get("k")
    assert proxy.accepted == 1


async def test_a_database_that_is_not_there(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    error = await refusal(pool_at(clean_server, proxy, database=99), ConnectFailed)
    assert "has no database 99" in str(error)
    assert "REDIS_DATABASE" in str(error)
    assert proxy.accepted == 2


@pytest.mark.parametrize("protocol", [2, 3])
async def test_a_database_that_is_not_there_without_a_password(
    start_server: StartServer, protocol: int
) -> None:
    server = await start_server(password="")
    options: dict[str, Any] = {"password": None, "protocol": protocol, "db": 99}
    async with client_at(server, **options) as client:
        with pytest.raises(ConnectFailed, match="has no database 99") as failure:
            await client.get("k")
        assert failure.value.fatal


async def test_it_recovers_when_the_password_is_mended(
    clean_server: EmbeddedServer, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong")
    async with pool_at(clean_server, password=None, password_file=file) as pool:
        with pytest.raises(AuthenticationFailed):
            await pool.client.ping()
        file.write_text(clean_server.password)
        assert await pool.client.ping()


# --- servers without HELLO ---


class OldServer:
    """A peer that speaks RESP2 and has never heard of HELLO, nor of CLIENT SETINFO."""

    def __init__(self, password: str | None = None) -> None:
        self.password = password
        self.seen: list[list[bytes]] = []
        self.connections = 0
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        known = self.password is None
        buffered = b""
        while piece := await reader.read(4096):
            buffered += piece
            for words in unpack(buffered):
                self.seen.append(words)
                name = words[0].upper()
                if name == b"AUTH":
                    known = self.password is not None and words[1:] == [self.password.encode()]
                    answer = b"+OK" if known else b"-ERR invalid password"
                elif name in (b"HELLO", b"CLIENT"):
                    answer = b"-ERR unknown command '%s'" % words[0]
                elif not known:
                    answer = b"-NOAUTH Authentication required."
                elif name == b"GET":
                    answer = b"$5\r\nvalue"
                elif name == b"HGETALL":
                    answer = b"*2\r\n$1\r\na\r\n$1\r\n1"
                else:
                    answer = b"+OK"
                writer.write(answer + b"\r\n")
            buffered = b""
        writer.close()


@asynccontextmanager
async def old_server(password: str | None = None) -> AsyncIterator[OldServer]:
    server = OldServer(password)
    listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listener.sockets[0].getsockname()[1]
    try:
        yield server
    finally:
        listener.close()
        await listener.wait_closed()


@pytest.mark.parametrize("password", [None, "old"])
async def test_a_server_without_hello_is_spoken_to_in_resp2(password: str | None) -> None:
    async with old_server(password) as server:
        client = Redis(
            host="127.0.0.1", port=server.port, password=password, client_name="me", db=2
        )
        async with client:
            assert await client.get("k") == b"value"
            assert await client.hgetall("h") == {b"a": b"1"}
        assert server.connections == 1
        names = [words[0] for words in server.seen]
        assert names.index(b"HELLO") < names.index(b"GET")
        assert [b"SELECT", b"2"] in server.seen[names.index(b"HELLO") + 2 :]


async def test_a_wrong_password_without_hello() -> None:
    async with old_server("old") as server:
        client = Redis(host="127.0.0.1", port=server.port, password="new", client_name=None)
        async with client:
            with pytest.raises(AuthenticationFailed, match="refused the user name or password"):
                await client.get("k")
        assert server.connections == 1


@pytest.mark.parametrize("make", [pool_at, client_at])
async def test_a_real_server_without_hello(
    start_server: StartServer, make: Callable[..., Any]
) -> None:
    server = await start_server(config={"rename-command": 'HELLO ""'})
    async with make(server) as made:
        client = made.client if isinstance(made, RedisPool) else made
        await client.hset("h", mapping={"a": 1})
        assert await client.hgetall("h") == {b"a": b"1"}
        async with client.pubsub() as pubsub:
            await pubsub.subscribe("news")
            assert await pubsub.get_message(timeout=5)
            await client.publish("news", "x")
            message = await pubsub.get_message(timeout=5)
            assert message["data"] == b"x"
