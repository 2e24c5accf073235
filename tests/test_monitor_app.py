"""``monitor_app``: what each address answers, to whom, and what trouble does not do to it."""

import asyncio
import logging
import re
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from redisutils import RedisPool, create_redis_pool
from redisutils.testing import EmbeddedServer
from tests.conftest import StartServer
from tests.ours import pool_at, until

pytest.importorskip("starlette", reason='needs the extra "monitor"')
pytest.importorskip("uvicorn", reason='needs the extra "monitor"')

from starlette.applications import Starlette
from starlette.routing import Mount

from redisutils.monitor import app as app_module
from redisutils.monitor.app import monitor_app
from redisutils.monitor.files import read_page
from redisutils.monitor.guard import LoopbackOnly
from tests.monitored import Browse, browsing, complaints, one_loop, quick

TOKEN = "open-sesame-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    async with pool_at(clean_server) as pool:
        yield pool


@pytest.fixture
async def idle() -> AsyncIterator[RedisPool]:
    """A pool of a server that there is not, for what asks none."""
    async with create_redis_pool(port=1, max_retries=0) as pool:
        yield pool


@pytest.fixture
async def browse() -> AsyncIterator[Browse]:
    async with browsing() as browse:
        yield browse


# What is answered


async def test_each_address_answers_for_a_pool_that_is_well(
    pool: RedisPool, browse: Browse
) -> None:
    client = browse(monitor_app(pool))
    await pool.client.set("k", "v")
    assert (await client.get("/livez")).text == "alive\n"
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (200, {"ready": True, "reasons": []})
    healthy = await client.get("/healthz")
    assert healthy.status_code == 200
    assert healthy.json()["status"] == "healthy"
    assert healthy.json()["pool"]["max_size"] == 10
    frame = await client.get("/api/frame")
    assert frame.headers["content-type"] == "application/json"
    assert frame.json()["endpoint"] == pool.metrics().endpoint
    page = await client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    for name in re.findall(r'(?:src|href)="([^"]+)"', page.text):
        assert not name.startswith(("/", "http")), "every address in the page is relative"
        file = await client.get(name)
        assert file.status_code == 200, name
        assert (await client.get(f"static/{name}")).content == file.content
    lost = await client.get("/nothing")
    assert (lost.status_code, lost.json()) == (404, {"error": "there is nothing here"})


async def test_metrics_are_what_prometheus_reads(pool: RedisPool, browse: Browse) -> None:
    parser = pytest.importorskip("prometheus_client.parser")
    client = browse(monitor_app(pool))
    await pool.client.set("k", "v")
    answer = await client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = list(parser.text_string_to_metric_families(answer.text))
    assert any(family.samples for family in families)


@one_loop
async def test_a_dead_server_is_not_ready_but_alive(idle: RedisPool, browse: Browse) -> None:
    client = browse(monitor_app(idle))
    ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert "does not answer" in ready.json()["reasons"][0]
    health = await client.get("/healthz")
    assert (health.status_code, health.json()["status"]) == (503, "unhealthy")
    assert health.json()["reasons"][0]["severity"] == "unhealthy"
    assert (await client.get("/livez")).status_code == 200


async def test_readiness_comes_back_with_the_server(
    start_server: StartServer, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(app_module, "_FRESH", 0.0)
    server = await start_server()
    async with pool_at(server) as pool:
        client = browse(monitor_app(pool))
        await server.kill()
        assert (await client.get("/readyz")).status_code == 503
        await server.start()
        for _ in range(500):
            if (await client.get("/readyz")).status_code == 200:
                break
            await asyncio.sleep(0.01)  # nobody tells us
        else:
            pytest.fail("it has not become ready again")


@one_loop
async def test_a_pool_that_is_not_open_says_so_everywhere(browse: Browse) -> None:
    pool = create_redis_pool(host="cache")
    client = browse(monitor_app(pool))
    ready = await client.get("/readyz")
    assert ready.status_code == 503
    assert "is not open" in ready.json()["reasons"][0]
    health = await client.get("/healthz")
    assert health.status_code == 503
    assert "is not open" in health.json()["error"]
    assert health.json()["status"] == "unhealthy"
    assert health.json()["reasons"][0]["severity"] == "unhealthy"
    frame = await client.get("/api/frame", timeout=1)
    assert frame.status_code == 503
    assert "is not open" in frame.json()["error"]
    assert (await client.get("/metrics/")).status_code == 200
    assert (await client.get("/metrics")).status_code == 200
    assert (await client.get("/")).status_code == 200


async def test_a_closed_pool_says_so_everywhere(
    clean_server: EmbeddedServer, browse: Browse
) -> None:
    pool = await pool_at(clean_server)
    app = quick(pool)
    client = browse(app)
    assert not (await client.get("/api/frame")).json()["closed"]
    await pool.close()
    assert (await client.get("/readyz")).status_code == 503
    assert (await client.get("/healthz")).status_code == 503
    assert (await client.get("/metrics")).status_code == 200  # the last figures
    await until(lambda: not app.feed.running, "the end of the feed")
    assert (await client.get("/api/frame")).json()["closed"]
    stream = await client.get("/events")
    assert (stream.status_code, stream.json()["error"][-9:]) == (503, "is closed")
    late = browse(monitor_app(pool))
    frame = await late.get("/api/frame")
    assert (frame.status_code, frame.json()["error"][-9:]) == (503, "is closed")


async def test_whoever_asks_while_the_pool_closes_gets_an_answer(
    clean_server: EmbeddedServer, browse: Browse, caplog: pytest.LogCaptureFixture
) -> None:
    pool = await pool_at(clean_server)
    client = browse(monitor_app(pool))
    addresses = ("/metrics", "/healthz", "/readyz", "/api/frame", "/")

    async def ask() -> set[int]:
        return {(await client.get(addresses[n % 5])).status_code for n in range(40)}

    asking = [asyncio.create_task(ask()) for _ in range(5)]
    await client.get("/metrics")
    await pool.close()
    for statuses in await asyncio.gather(*asking):
        assert statuses <= {200, 503}
    assert complaints(caplog) == []


async def test_those_who_ask_often_do_not_drive_redis(pool: RedisPool, browse: Browse) -> None:
    client = browse(app := monitor_app(pool))
    await client.get("/readyz")
    await app.feed.stop()  # it makes checks of its own, one each second
    before = pool.metrics().commands
    for _ in range(50):
        for path in ("/readyz", "/healthz"):
            assert (await client.get(path)).status_code == 200
    assert pool.metrics().commands - before < 50


@one_loop
async def test_a_pool_of_another_loop_is_said_to_be_one_once(
    clean_server: EmbeddedServer, browse: Browse, caplog: pytest.LogCaptureFixture
) -> None:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def opened() -> RedisPool:
        return await pool_at(clean_server)

    pool = asyncio.run_coroutine_threadsafe(opened(), loop).result(10)
    try:
        client = browse(monitor_app(pool))
        for _ in range(3):
            frame = await client.get("/api/frame")
            assert frame.status_code == 503
            assert "another event loop" in frame.json()["error"]
            ready = await client.get("/readyz")
            assert ready.status_code == 503
            assert "another event loop" in ready.json()["reasons"][0]
            assert (await client.get("/healthz")).status_code == 503
            metrics = await client.get("/metrics")
            assert "redisutils_commands_total" in metrics.text
        (complaint,) = complaints(caplog)
        assert "open the pool where the application runs" in complaint
        assert all(record.exc_info is None for record in caplog.records)
    finally:
        asyncio.run_coroutine_threadsafe(pool.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@one_loop
async def test_about_to_stop_is_not_ready(idle: RedisPool, browse: Browse) -> None:
    app = monitor_app(idle)
    client = browse(app)
    app.stopping = True
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()["reasons"]) == (503, ["the process is about to stop"])
    stream = await client.get("/events")
    assert (stream.status_code, stream.json()["error"]) == (503, "the process is about to stop")
    assert not app.feed.running


# Mounted


async def test_it_can_be_mounted_anywhere_and_needs_no_lifespan(
    pool: RedisPool, browse: Browse
) -> None:
    app = monitor_app(pool, token=TOKEN)
    host = Starlette(routes=[Mount("/deep/redis", app)])
    client = browse(host)
    assert (await client.get("/deep/redis/readyz")).status_code == 200
    assert (await client.get("/deep/redis", follow_redirects=True)).status_code == 401
    entered = await client.post("/deep/redis/login", data={"token": TOKEN})
    assert (entered.status_code, entered.headers["location"]) == (303, "./")
    page = await client.get("/deep/redis/")
    assert page.status_code == 200
    assert (await client.get("/deep/redis/style.css")).status_code == 200
    assert app.feed.running
    await app.stop()


@one_loop
async def test_where_a_server_mounts_without_a_slash_the_browser_is_sent_to_it(
    idle: RedisPool, browse: Browse
) -> None:
    app = monitor_app(idle)

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "root_path": scope["path"]}, receive, send)

    for path, location in [
        ("/deep/redis", "./redis/"),
        ("/javascript:alert(1)", "./javascript%3Aalert%281%29/"),
        ("/a%0d%0aSet-Cookie: x", "./a%0D%0ASet-Cookie%3A%20x/"),
        ("/%5Cevil.example", "./%5Cevil.example/"),
    ]:
        answer = await browse(bare).get(path)
        assert (answer.status_code, answer.headers["location"]) == (307, location)


# What no request may do


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/", "/style.css", "/nothing", "/api/frame"])
@one_loop
async def test_every_answer_keeps_browsers_safe(idle: RedisPool, browse: Browse, path: str) -> None:
    headers = (await browse(monitor_app(idle, token=TOKEN)).get(path)).headers
    policy = headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "frame-ancestors" in policy
    assert "unsafe" not in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == ("no-cache" if path == "/style.css" else "no-store")


@one_loop
async def test_files_are_kept_by_the_browser_until_they_change(
    idle: RedisPool, browse: Browse
) -> None:
    client = browse(monitor_app(idle))
    first = await client.get("/style.css")
    tag = first.headers["etag"]
    for known in (tag, f'"other", W/{tag}'):
        again = await client.get("/style.css", headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b"")
    assert (await client.get("/style.css", headers={"If-None-Match": '"x"'})).status_code == 200
    for path in ("/static/../app.py", "/static/..%2fapp.py", "/static/login.html", "/index.html"):
        assert (await client.get(path)).status_code == 404


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
@one_loop
async def test_only_reading_is_allowed(idle: RedisPool, browse: Browse, method: str) -> None:
    client = browse(monitor_app(idle))
    for path in (
        "/",
        "/livez",
        "/readyz",
        "/healthz",
        "/metrics",
        "/events",
        "/api/frame",
        "/style.css",
    ):
        answer = await client.request(method, path)
        assert answer.status_code == 405
        assert "GET" in answer.headers["allow"]


@one_loop
async def test_head_is_get_without_the_body(idle: RedisPool, browse: Browse) -> None:
    client = browse(monitor_app(idle))
    for path in ["/livez", "/", "/style.css", "/events"]:
        answer = await client.head(path)
        assert answer.status_code == 200


@one_loop
async def test_a_request_cannot_be_large(idle: RedisPool, browse: Browse) -> None:
    client = browse(monitor_app(idle, token=TOKEN))
    large = await client.post("/login", content=b"token=" + b"x" * 9000)
    assert (large.status_code, large.json()) == (413, {"error": "a request may have 8192 bytes"})

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x" * 1000

    longer = await client.post("/login", content=endless())
    assert (longer.status_code, longer.json()) == (
        413,
        {"error": "the form has more than 4096 bytes"},
    )
    absurd = await client.post("/login", headers={"Content-Length": "9" * 5000})
    assert absurd.status_code == 413
    for odd in (b"a=1&" * 500, b"token=%ff%zz", b"\xff\x00", b"token", b""):
        assert (await client.post("/login", content=odd)).status_code == 401


@one_loop
async def test_on_loopback_only_names_of_this_machine_are_answered(
    idle: RedisPool, browse: Browse
) -> None:
    app = LoopbackOnly(monitor_app(idle))
    for name in (
        *("localhost", "LocalHost:1", "localhost.", "localhost.:9121"),
        *("127.0.0.1:9121", "127.0.0.2", "127.1.2.3:9121", "[::1]:9121", "[::1]"),
    ):
        assert (await browse(app, base=f"http://{name}").get("/livez")).status_code == 200
    for name in ("evil.example", "localhost.evil.example:9121", "127.0.0.1.evil.example", ""):
        answer = await browse(app).get("/livez", headers={"Host": name})
        assert answer.status_code == 421
        assert "localhost" in answer.json()["error"]
    for name, told in [("evil.example", 421), ("Cache.internal", 200), ("cache.internal.:1", 200)]:
        named = LoopbackOnly(monitor_app(idle), ["cache.internal"])
        assert (await browse(named).get("/livez", headers={"Host": name})).status_code == told


@one_loop
async def test_a_fault_of_ours_is_logged_and_not_shown(
    idle: RedisPool,
    browse: Browse,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: Any) -> Any:
        raise ZeroDivisionError("secret of the house")

    monkeypatch.setattr(app_module, "plain", broken)
    with caplog.at_level(logging.ERROR):
        answer = await browse(monitor_app(idle)).get("/healthz")
    assert answer.status_code == 500
    assert answer.json() == {"error": "this failed, and the log says more: ZeroDivisionError"}
    assert answer.headers["x-content-type-options"] == "nosniff"
    (record,) = caplog.records
    assert "/healthz" in record.message
    assert record.exc_info is not None


@one_loop
async def test_without_prometheus_it_says_what_to_install(
    idle: RedisPool, browse: Browse, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "redisutils.monitor.prometheus", None)
    answer = await browse(monitor_app(idle)).get("/metrics")
    assert answer.status_code == 501


def test_every_file_of_the_page_can_be_served() -> None:
    folder = Path(app_module.__file__).parent / "page"
    served = read_page()
    assert {path.name for path in folder.iterdir() if path.is_file()} == set(served)
