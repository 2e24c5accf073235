"""``monitor_app`` on real sockets: connections that are kept for nothing, and the streams of those
who watch."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from redisutils import RedisPool, create_redis_pool
from redisutils.testing import EmbeddedServer
from tests.ours import our_tasks, pool_at, until

pytest.importorskip("starlette", reason='needs the extra "monitor"')
pytest.importorskip("uvicorn", reason='needs the extra "monitor"')

from redisutils.cli.serve import protocol
from redisutils.monitor import app as app_module
from redisutils.monitor import stream as stream_module
from redisutils.monitor.app import MonitorApp, monitor_app
from redisutils.monitor.feed import Feed
from redisutils.monitor.files import File
from tests.monitored import complaints, events, hosted, one_loop, quick, taking

TOKEN = "open-sesame-0123456789"


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    async with pool_at(clean_server) as pool:
        yield pool


@pytest.fixture
async def idle() -> AsyncIterator[RedisPool]:
    """A pool of a server that there is not, for what asks none."""
    async with create_redis_pool(port=1, max_retries=0) as pool:
        yield pool


# Connections that are kept for nothing


async def sent_to(url: str, *pieces: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    place = httpx.URL(url)
    reader, writer = await asyncio.open_connection(place.host, place.port, limit=2**20)
    for piece in pieces:
        writer.write(piece)
    return reader, writer


def request(path: str, *headers: str, method: str = "GET") -> bytes:
    """As bytes, its body excluded."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers, "", ""]
    return "\r\n".join(lines).encode()


HALF = request("/login", "Content-Length: 9", method="POST") + b"tok"
"""A request without its end."""

CHUNKED = "Transfer-Encoding: chunked"

LARGE = File(b"x" * 8_000_000, "text/css", '"large"')
"""More than any buffer takes."""


@pytest.mark.parametrize(
    "begun",
    [b"", request("/livez")[:-2] + b"X: ", HALF, request("/livez"), request("/livez") + HALF],
)
async def test_a_request_has_its_time(
    idle: RedisPool, begun: bytes, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(protocol, "PATIENCE", 0.1)
    async with hosted(monitor_app(idle, token=TOKEN)) as url:
        reader, writer = await sent_to(url, begun)
        try:
            async with asyncio.timeout(8):
                await reader.read()
        except ConnectionResetError:
            pass
        writer.close()
    assert not complaints(caplog)


@pytest.mark.parametrize(
    "sent",
    [b"", HALF, request("/livez") + HALF, request("/style.css")],
    ids=["nothing", "a half", "one and a half", "and takes nothing"],
)
async def test_idle_clients_keep_nobody_out(
    idle: RedisPool, sent: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "CONNECTIONS", 5)
    app = monitor_app(idle)
    app._page["style.css"] = LARGE
    async with hosted(app) as url, httpx.AsyncClient(base_url=url) as client:
        async with client.stream("GET", "/events") as watching:
            assert watching.status_code == 200
            clients = []
            for _ in range(12):
                clients.append(await sent_to(url, sent))
                taking(clients[-1][1]).pause_reading()
                answer = await client.get("/livez", headers={"Connection": "close"})
                assert answer.status_code == 200
            lines = watching.aiter_lines()
            assert await anext(lines) == "retry: 1000", "what is answered stays"
        reader, writer = clients[0]
        taking(writer).resume_reading()
        async with asyncio.timeout(8):
            with contextlib.suppress(ConnectionResetError):
                while await reader.read(2**20):  # the oldest went
                    pass
        for _, writer in clients:
            writer.transport.abort()


async def test_dashboards_keep_no_probe_out(
    idle: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "CONNECTIONS", 3)
    async with hosted(monitor_app(idle)) as url, httpx.AsyncClient(base_url=url) as client:
        watching = [await sent_to(url, request("/events")) for _ in range(3)]
        for reader, _ in watching:
            assert await reader.readuntil(b"event: history")
        assert (await client.get("/livez")).status_code == 200
        for _, writer in watching:
            writer.close()


def hoard(app: MonitorApp) -> None:
    """A history that is more than any buffer takes."""
    app.feed._kept.extend([b'{"x":"' + b"x" * 100_000 + b'"}'] * 200)


async def test_a_viewer_that_takes_nothing_is_left(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(protocol, "PATIENCE", 0.1)
    app = quick(pool)
    hoard(app)
    async with hosted(app) as url:
        _, writer = await sent_to(url, request("/events"))
        taking(writer).pause_reading()
        await until(lambda: app.feed.viewers == 1)
        await until(lambda: app.feed.viewers == 0)
        writer.transport.abort()
    assert not complaints(caplog)


async def test_where_its_connection_cannot_be_closed_its_stream_ends_as_it_should(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Any server but ours: an application cannot end a connection."""
    monkeypatch.setattr(stream_module, "PATIENCE", 0.1)
    app = quick(pool)
    hoard(app)
    async with hosted(app) as url:
        reader, writer = await sent_to(url, request("/events"))
        taking(writer).pause_reading()
        await until(lambda: app.feed.viewers == 1)
        await until(lambda: app.feed.viewers == 0)
        writer.write(request("/livez"))
        taking(writer).resume_reading()
        taken = b""
        async with asyncio.timeout(8):
            while not taken.endswith(b"alive\n") and (piece := await reader.read(2**20)):
                taken += piece
        assert b"\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n" in taken
        writer.close()
    assert not complaints(caplog)


async def test_a_connection_that_is_closed_does_not_wait_for_what_nobody_takes(
    idle: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PATIENCE", 0.1)
    app = monitor_app(idle)
    app._page["style.css"] = File(b"x" * 50_000, "text/css", '"some"')  # less than pauses uvicorn
    loop = asyncio.get_running_loop()
    async with hosted(app, buffer=4096) as url:
        with socket.socket() as slow:
            slow.setblocking(False)
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            await loop.sock_connect(slow, (httpx.URL(url).host, httpx.URL(url).port))
            await loop.sock_sendall(slow, request("/style.css", "Connection: close"))
            taken = await loop.sock_recv(slow, 1)
            reader, writer = await sent_to(url)  # which comes and ends after it
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            writer.close()
            with contextlib.suppress(ConnectionResetError):
                while piece := await loop.sock_recv(slow, 2**16):
                    taken += piece
            assert len(taken) < 50_000


async def test_a_viewer_that_takes_everything_stays(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "PATIENCE", 0.1)
    async with hosted(quick(pool)) as url:
        watching, watcher = await sent_to(url, request("/events"))
        idle, writer = await sent_to(url)  # which comes and ends after it
        with contextlib.suppress(ConnectionResetError):
            await idle.read()
        for _ in range(3):
            await watching.readuntil(b"event: frame")
        watcher.close()
        writer.close()


@pytest.mark.parametrize("path", ["/events", "/style.css"], ids=["watched", "answered"])
async def test_clients_that_take_nothing_do_not_hold_up_the_end(
    pool: RedisPool, path: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(protocol, "GRACE", 0.1)
    app = quick(pool)
    hoard(app)
    app._page["style.css"] = LARGE
    async with hosted(app) as url:
        reader, writer = await sent_to(url, request(path))
        await reader.readuntil(b"\r\n\r\n")
        taking(writer).pause_reading()
        await until(lambda: app.feed.viewers or path != "/events")
    writer.transport.abort()
    assert not complaints(caplog)


def test_there_is_room_for_the_pool_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    for files, expected in [(256, 192), (100, 50), (10**6, 1024), (resource.RLIM_INFINITY, 1024)]:
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert protocol.room() == expected


# Streams


async def test_a_viewer_gets_the_history_and_then_each_frame(pool: RedisPool) -> None:
    app = quick(pool)
    await pool.client.get("k")
    app.feed.start()
    await app.feed.first(5.0)
    async with (
        hosted(app) as url,
        httpx.AsyncClient(base_url=url) as client,
        client.stream("GET", "events") as response,
    ):
        assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-length" not in response.headers
        coming = events(response)
        name, history = await anext(coming)
        assert name == "history"
        assert {frame["closed"] for frame in history} == {False}
        # Of the slow commands, which each frame tells of again, the latest is enough.
        assert history[-1]["slow"]
        assert not any(frame["slow"] for frame in history[:-1])
        name, frame = await anext(coming)
        assert name == "frame"
        assert frame["at"] > history[-1]["at"]
        assert app.feed.viewers == 1
        await coming.aclose()


async def test_a_viewer_that_hangs_up_leaves_nothing(
    pool: RedisPool, caplog: pytest.LogCaptureFixture
) -> None:
    app = quick(pool)
    async with hosted(app) as url:
        host, port = url.removeprefix("http://").rstrip("/").split(":")
        before = our_tasks()
        for _ in range(20):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            await reader.readuntil(b"event: history")
            writer.transport.abort()
        await until(lambda: not app.feed.viewers, "the end of the streams")
        await app.feed.stop()
        await until(lambda: our_tasks() <= before, "the end of their tasks")
    assert complaints(caplog) == []


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
        b"*1\r\n$4\r\nPING\r\n\r\n",
        b"GET /" + b"x" * 70_000,
        request("/livez", CHUNKED) + b"ZZ\r\n\r\n",
        request("/login", CHUNKED, method="POST") + b"ZZ\r\n\r\n",
    ],
    ids=["TLS", "RESP", "endless", "body", "form"],
)
async def test_garbage_is_answered_and_leaves_no_trace(
    idle: RedisPool, garbage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with hosted(monitor_app(idle)) as url:
        before = our_tasks()
        reader, writer = await sent_to(url, garbage)
        assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
        writer.close()
        await until(lambda: our_tasks() <= before, "the end of its task")
    assert complaints(caplog) == []


@pytest.mark.parametrize(
    ("sent", "answered"),
    [
        (request("/events", CHUNKED), b"event: history"),
        (request("/livez", CHUNKED, method="POST"), b"Method Not Allowed"),
    ],
)
async def test_garbage_after_an_answer_has_begun_ends_it(
    idle: RedisPool, sent: bytes, answered: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    app = monitor_app(idle)
    async with hosted(app) as url:
        reader, writer = await sent_to(url, sent)
        await reader.readuntil(answered)
        writer.write(b"ZZ\r\n\r\n")
        await reader.read()  # to its end
        await until(lambda: app.feed.viewers == 0, "the end of the stream")
        writer.close()
    assert complaints(caplog) == []


@pytest.mark.asyncio(loop_factories=["uvloop"])  # httpx makes debugging slow
async def test_a_hundred_dashboards(pool: RedisPool) -> None:
    app = quick(pool)
    app.feed.start()

    together = asyncio.Event()

    async def watch(client: httpx.AsyncClient) -> bool:
        async with client.stream("GET", "events") as response:
            async for name, frame in events(response):
                if name == "frame" and together.is_set():
                    return bool(frame["health"]["status"] == "healthy")
        return False

    limits = httpx.Limits(max_connections=None)
    async with hosted(app) as url, httpx.AsyncClient(base_url=url, limits=limits) as client:
        watching = [asyncio.create_task(watch(client)) for _ in range(100)]
        await until(lambda: app.feed.viewers == 100, "a hundred viewers", patience=20)
        together.set()
        assert await asyncio.gather(*watching) == [True] * 100
    assert app.feed.viewers == 0


async def test_the_history_is_sent_whole(pool: RedisPool) -> None:
    app = monitor_app(pool)
    app.feed = Feed(pool, interval=0.002)
    with app.feed.watch() as viewer:
        made = [(await anext(viewer)).frame["at"] for _ in range(40)]
    async with (
        hosted(app) as url,
        httpx.AsyncClient(base_url=url) as client,
        client.stream("GET", "events") as response,
    ):
        async for name, frames in events(response):
            if name == "history":
                assert [frame["at"] for frame in frames][: len(made)] == made
                break


async def test_streams_end_when_the_process_stops(pool: RedisPool) -> None:
    app = quick(pool)

    async def watch(url: str) -> list[str]:
        async with httpx.AsyncClient() as client, client.stream("GET", f"{url}events") as response:
            return [name async for name, _ in events(response)]

    async with hosted(app) as url:
        watching = asyncio.create_task(watch(url))
        await until(lambda: app.feed.viewers, "a viewer")
    assert (await watching)[0] == "history"  # and it ended without an error


@one_loop
async def test_there_is_a_bound_to_streams(
    pool: RedisPool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "VIEWERS", 2)
    app = monitor_app(pool)
    viewers = [app.feed.watch() for _ in range(2)]
    async with hosted(app) as url, httpx.AsyncClient(base_url=url) as client:
        answer = await client.get("events")
        assert (answer.status_code, answer.json()) == (
            503,
            {"error": "2 dashboards are open already"},
        )
        viewers[0].leave()
        async with client.stream("GET", "events") as response:
            assert response.status_code == 200
