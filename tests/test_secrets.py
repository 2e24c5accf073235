"""No secret where people, files or trackers of errors might see it, whatever goes wrong.

What may be shown is searched, down to the locals of each frame of ours in a traceback. Held in
plain all the same, and shown by nothing of ours:

* the bytes of a HELLO or AUTH that is about to be written or unanswered, in slots of the
  connection and its replies, which no ``repr`` shows;
* a password that a caller gives to redis-py's ``auth()``, or in words to a connection of its own:
  frames hold it, and a server that does not know the command repeats it in its refusal;
* what a credential provider of the user's own says in its errors, and holds in its frames.
"""

from __future__ import annotations

import asyncio
import gc
import socket
import struct
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import redis
import redis.asyncio
from pydantic import SecretStr
from redis.credentials import CredentialProvider

from redisutils import (
    AuthenticationFailed,
    ConnectFailed,
    Redis,
    RedisConfig,
    RedisPool,
    create_redis_pool,
)
from redisutils.connection.packing import pack, unpack
from redisutils.connection.protocol import Connection
from redisutils.pool import scouting
from redisutils.testing import EmbeddedServer, FaultProxy

from .canary import ENCODED, NEEDLE, SECRET, WRONG, Search
from .ours import until

USER = "alice"

Opened = Redis | RedisPool


@pytest.fixture
def search(caplog: pytest.LogCaptureFixture) -> Search:
    return Search(caplog)


@pytest.fixture
def user(clean_server: EmbeddedServer, admin: redis.Redis) -> Iterator[str]:
    """A user of the server whose password is the secret."""
    admin.acl_setuser(
        USER, enabled=True, passwords=[f"+{SECRET}"], keys=["*"], categories=["+@all"]
    )
    yield USER
    admin.acl_deluser(USER)


class Provider(CredentialProvider):
    def __init__(self, password: str) -> None:
        self._password = password

    def get_credentials(self) -> tuple[str, str]:
        return USER, self._password

    async def get_credentials_async(self) -> tuple[str, str]:
        return self.get_credentials()


# Each way to tell a secret to a pool or a client.

POOLS: dict[str, Any] = {"host": "127.0.0.1", "max_retries": 0}
CLIENTS: dict[str, Any] = {"host": "127.0.0.1", "socket_timeout": 5}


def by_argument(port: int, secret: str, **more: Any) -> Opened:
    return create_redis_pool(port=port, username=USER, password=secret, **POOLS, **more)


def by_secret_str(port: int, secret: str, **more: Any) -> Opened:
    config = RedisConfig(port=port, username=USER, password=SecretStr(secret), **POOLS)
    return create_redis_pool(config, **more)


def by_url(port: int, secret: str, **more: Any) -> Opened:
    url = f"redis://{USER}:{_quoted(secret)}@127.0.0.1:{port}"
    return create_redis_pool(url=url, max_retries=0, **more)


def by_environment(port: int, secret: str, **more: Any) -> Opened:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REDIS_USERNAME", USER)
        patch.setenv("REDIS_PASSWORD", secret)
        return create_redis_pool(port=port, **POOLS, **more)


def by_file(port: int, secret: str, **more: Any) -> Opened:
    Path("password").write_text(secret, encoding="utf-8")
    return create_redis_pool(port=port, username=USER, password_file="password", **POOLS, **more)


def by_dotenv(port: int, secret: str, **more: Any) -> Opened:
    Path(".env").write_text(f"REDIS_USERNAME={USER}\nREDIS_PASSWORD='{secret}'\n", "utf-8")
    try:
        return create_redis_pool(port=port, **POOLS, **more)
    finally:
        Path(".env").unlink()


def by_redis_py(port: int, secret: str, **more: Any) -> Opened:
    return Redis(port=port, username=USER, password=secret, **CLIENTS, **_in_redis_py(more))


def by_redis_pys_url(port: int, secret: str, **more: Any) -> Opened:
    url = f"redis://{USER}:{_quoted(secret)}@127.0.0.1:{port}"
    return Redis.from_url(url, socket_timeout=5, **_in_redis_py(more))


def by_redis_pys_pool(port: int, secret: str, **more: Any) -> Opened:
    given = {**CLIENTS, **_in_redis_py(more), "username": USER, "password": secret}
    return Redis(connection_pool=redis.asyncio.ConnectionPool(port=port, **given))


def by_provider(port: int, secret: str, **more: Any) -> Opened:
    return Redis(port=port, credential_provider=Provider(secret), **CLIENTS, **_in_redis_py(more))


WAYS: list[Callable[..., Opened]] = [
    by_argument,
    by_secret_str,
    by_url,
    by_environment,
    by_file,
    by_dotenv,
    by_redis_py,
    by_redis_pys_url,
    by_redis_pys_pool,
    by_provider,
]


def _quoted(secret: str) -> str:
    return ENCODED if secret == SECRET else secret


def _in_redis_py(settings: dict[str, Any]) -> dict[str, Any]:
    names = {"connection_timeout": "socket_connect_timeout", "command_timeout": "socket_timeout"}
    found = {names[name]: value for name, value in settings.items()}
    return found | {"retry_mode": "never"}


@asynccontextmanager
async def opened(made: Opened) -> AsyncIterator[Redis]:
    """The client of a pool, or the client itself, open for a while."""
    async with made:
        yield made.client if isinstance(made, RedisPool) else made
    if isinstance(made, Redis):
        await made.aclose(close_connection_pool=True)  # another pool's belongs to nobody else


async def faces(search: Search, where: str, made: Opened, client: Redis) -> None:
    """All that a program holds of an open pool or client."""
    search.look_at(where, made, client, client.connection_pool, client.pipeline(), client.pubsub())
    search.look_at(where, client.with_timeout(1), client._source)
    search.look_at(where, client._source.options, client._source.settings, client._lane)
    server: Any = client._source.server()
    search.look_at(where, server, server.pool, server.metrics, server.pool.status())
    search.look_at(where, server.lane(), server.lane().connection)
    if isinstance(made, RedisPool):
        search.look_at(where, made.config, made.metrics(), made.status(), made.get())
        search.look_at(where, await made.health(), made.config.model_dump())
        search.look_at(where, made.config.model_dump_json(), made.config.model_dump(mode="json"))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


# --- a connection, and what becomes of it ---


@pytest.mark.usefixtures("user")
async def test_when_all_is_well(proxy: FaultProxy, search: Search) -> None:
    # Debug mode's loop describes every callback that it has run, as if each were slow.
    vars(asyncio.get_running_loop())["slow_callback_duration"] = 0.0
    for way in WAYS:
        made = way(proxy.port, SECRET)
        search.look_at(f"{way.__name__}, not open", made)
        async with opened(made) as client:
            assert await client.acl_whoami() in (USER, USER.encode()), way
            await faces(search, way.__name__, made, client)
            if isinstance(made, RedisPool):
                async with made.get() as conn:
                    search.look_at(way.__name__, conn, conn._lease, conn._lease.item)
            search.look_at_tasks(way.__name__)
        search.look_at(f"{way.__name__}, closed", made)
    search.look_at("proxy", proxy)
    assert search.leaks() == []


@pytest.mark.usefixtures("user")
async def test_when_it_is_refused(proxy: FaultProxy, search: Search) -> None:
    for way in WAYS:
        made = way(proxy.port, WRONG)
        before = proxy.accepted
        async with opened(made) as client:
            with pytest.raises(AuthenticationFailed) as failure:
                await client.get("k")
            assert proxy.accepted == before + 1, way
            search.look_at(way.__name__, failure.value)
            await faces(search, way.__name__, made, client)
    assert search.leaks() == []


@pytest.mark.usefixtures("user")
async def test_when_nobody_listens_or_answers(proxy: FaultProxy, search: Search) -> None:
    async def fails(way: Callable[..., Opened], fault: str) -> None:
        made = way(proxy.port, SECRET, connection_timeout=0.05)
        where = f"{fault}, {way.__name__}"
        async with opened(made) as client:
            with pytest.raises(ConnectFailed) as failure:
                await client.get("k")
            search.look_at(where, failure.value)
            await faces(search, where, made, client)

    for fault in (proxy.refuse, proxy.blackhole):
        fault()
        await asyncio.gather(*(fails(way, fault.__name__) for way in WAYS))
        proxy.restore()
    assert search.leaks() == []


@pytest.mark.usefixtures("user")
async def test_when_it_is_cut_all_along_the_handshake(
    proxy: FaultProxy, search: Search, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At every sixteenth byte: what is held differs with the phase, not with the byte."""
    # On a busy machine a second connection would be tried meanwhile, and not be cut.
    monkeypatch.setattr(scouting, "SCOUT_AFTER", 60.0)
    for way, first in ((by_argument, 0), (by_redis_py, 1)):
        before = proxy.to_server.forwarded
        async with opened(way(proxy.port, SECRET)) as client:
            await client.ping()
        sent = proxy.to_server.forwarded - before - len(b"*1\r\n$4\r\nPING\r\n")
        for count in range(first, sent, 16):
            proxy.to_server.cut_after(count, "reset" if count % 32 < 16 else "close")
            async with opened(way(proxy.port, SECRET)) as client:
                with pytest.raises(ConnectFailed) as failure:
                    await client.get("k")
            search.look_at(f"{way.__name__} cut after {count}", failure.value)
    assert search.leaks() == []


async def test_when_the_handshake_itself_cannot_be_written(search: Search) -> None:
    """The socket's error has passed the event loop's frames, which hold what was to be written."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        class Meanwhile(Provider):
            """The connection is reset before the loop can hear of it."""

            async def get_credentials_async(self) -> tuple[str, str]:
                accepted, _ = listener.accept()
                accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                accepted.close()
                listener.close()  # and nobody is there for a closer look
                return self.get_credentials()

        place: dict[str, Any] = {"port": listener.getsockname()[1], "retry_mode": "never"}
        client = Redis(credential_provider=Meanwhile(SECRET), **CLIENTS, **place)
        async with opened(client):
            with pytest.raises(ConnectFailed, match="hung up during the handshake") as failure:
                await client.get("k")
            search.look_at("reset", failure.value)
    assert search.leaks() == []


@pytest.mark.usefixtures("user")
async def test_while_it_waits_for_the_answer(proxy: FaultProxy, search: Search) -> None:
    """Whoever looks at the tasks meanwhile, closes the pool or cancels, sees no more."""
    for way in WAYS:
        proxy.swallow_replies()
        made = way(proxy.port, SECRET)
        async with opened(made) as client:
            swallowed = proxy.swallowed
            call = asyncio.ensure_future(client.get("k"))
            await until(partial(_more, proxy, swallowed), "the handshake")
            search.look_at_tasks(way.__name__)
            look_in_flight(search, way.__name__)
            if way is by_argument:
                call.cancel()
        with pytest.raises((redis.ConnectionError, asyncio.CancelledError)) as failure:
            await call
        search.look_at(way.__name__, failure.value)
    assert search.leaks() == []


def _more(proxy: FaultProxy, swallowed: int) -> bool:
    return proxy.swallowed > swallowed


def look_in_flight(search: Search, where: str) -> None:
    """Connections that shake hands, which nothing public leads to, and what they wait for."""
    found = [each for each in gc.get_objects() if isinstance(each, Connection) and each.in_flight]
    assert found, where
    for connection in found:
        for shown in (connection, *(face for r in connection.owed() for face in (r, r.future))):
            search.texts.append((where, repr(shown)))


# --- peers that repeat what they are told ---


@asynccontextmanager
async def peer(answer: Callable[[list[bytes]], bytes]) -> AsyncIterator[int]:
    """The port of something that answers each command with ``answer(its words)``."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(4096):
            if data.startswith(b"*"):
                for words in unpack(data):
                    writer.write(answer(words))
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await listener.wait_closed()


def unknown(words: list[bytes]) -> bytes:
    """As Redis says it, from version 5 on."""
    shown = b", ".join(b"'%s'" % word for word in words[1:])
    return b"-ERR unknown command '%s', with args beginning with: %s\r\n" % (words[0], shown)


def only_auth_is_known(words: list[bytes]) -> bytes:
    return unknown(words) if words[0] == b"HELLO" else b"-ERR nobody is called %s\r\n" % words[-1]


def echo(words: list[bytes]) -> bytes:
    return pack(words)


def last_word(words: list[bytes]) -> bytes:
    return b"$%d\r\n%s\r\n" % (len(words[-1]), words[-1])


@pytest.mark.parametrize("answer", [unknown, only_auth_is_known, echo, last_word])
async def test_when_the_peer_repeats_what_it_is_told(search: Search, answer: Any) -> None:
    async with peer(answer) as port:
        for way in WAYS:
            async with opened(way(port, SECRET)) as client:
                with pytest.raises(ConnectFailed) as failure:
                    await client.get("k")
                search.look_at(way.__name__, failure.value)
    assert search.leaks() == []


async def test_a_password_that_does_not_encode(proxy: FaultProxy, search: Search) -> None:
    """As the environment gives it when it is no UTF-8."""
    for way in (by_redis_py, by_redis_pys_pool, by_provider):
        async with opened(way(proxy.port, f"{NEEDLE}\udcff")) as client:
            with pytest.raises(ConnectFailed, match="cannot be sent: surrogates") as failure:
                await client.get("k")
            assert failure.value.fatal
            search.look_at(way.__name__, failure.value)
    client = Redis(port=proxy.port, password=SECRET, client_name=True, **CLIENTS)
    async with opened(client):
        with pytest.raises(ConnectFailed, match="'bool'") as failure:
            await client.get("k")
        search.look_at("name", failure.value)
    assert search.leaks() == []


# --- commands that hold a secret ---


async def test_auth_on_a_shared_connection(proxy: FaultProxy, search: Search) -> None:
    async with opened(by_argument(proxy.port, SECRET)) as client:
        with pytest.raises(redis.DataError) as failure:
            await client.execute_command("AUTH", USER, SECRET)
        search.texts += [("AUTH", str(failure.value)), ("AUTH", repr(failure.value))]
    assert search.leaks() == []
