"""``monitor_app``: what each address answers, to whom, and what trouble does not do to it."""

import asyncio
import contextlib
import json
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from redisutils import ConfigError, RedisPool, create_redis_pool
from redisutils.testing import EmbeddedServer
from tests.conftest import StartServer
from tests.ours import our_tasks, pool_at, until

pytest.importorskip("starlette", reason='needs the extra "monitor"')
pytest.importorskip("uvicorn", reason='needs the extra "monitor"')

import uvicorn.server
from starlette.applications import Starlette
from starlette.routing import Mount

from redisutils.cli.serve import protocol
from redisutils.cli.serve.hosting import Host, addresses, listen
from redisutils.monitor import app as app_module
from redisutils.monitor import stream as stream_module
from redisutils.monitor.access import SESSION_SECONDS, Access, check_token
from redisutils.monitor.app import MonitorApp, monitor_app
from redisutils.monitor.feed import Feed
from redisutils.monitor.files import File, read_page
from redisutils.monitor.guard import LoopbackOnly
from redisutils.secret import Secret

TOKEN = "open-sesame-0123456789"
BEARER = {"Authorization": f"Bearer {TOKEN}"}

one_loop = pytest.mark.asyncio(loop_factories=["asyncio"])  # for what is the same on any


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    async with pool_at(clean_server) as pool:
        yield pool


@pytest.fixture
async def idle() -> AsyncIterator[RedisPool]:
    """A pool of a server that there is not, for what asks none."""
    async with create_redis_pool(port=1, max_retries=0) as pool:
        yield pool


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged that somebody should look at; not that the machine was busy, which asyncio
    says in debug mode."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.WARNING and record.msg != "Executing %s took %.3f seconds"
    ]


@pytest.fixture(autouse=True)
def impatience(monkeypatch: pytest.MonkeyPatch) -> None:
    """uvicorn looks ten times a second whether it is to end: most of what a test would take."""
    quick = SimpleNamespace(**vars(asyncio))
    quick.sleep = lambda seconds: asyncio.sleep(seconds / 20)
    monkeypatch.setattr(uvicorn.server, "asyncio", quick)


Browse = Callable[..., httpx.AsyncClient]


@pytest.fixture
async def browse() -> AsyncIterator[Browse]:
    """Clients of an application, without a network."""
    async with AsyncExitStack() as stack:
        apps: list[Any] = []

        def open_(app: Any, base: str = "http://localhost:9121", **options: Any) -> Any:
            apps.append(app)
            transport = httpx.ASGITransport(app, raise_app_exceptions=True)
            client = httpx.AsyncClient(transport=transport, base_url=base, **options)
            stack.push_async_exit(client)
            return client

        yield open_
        for app in apps:
            if isinstance(app, MonitorApp):
                await app.stop()


def quick(pool: RedisPool) -> MonitorApp:
    """One that makes frames more often, for tests that wait for some."""
    app = monitor_app(pool)
    app.feed = Feed(pool, interval=0.05)
    return app


@asynccontextmanager
async def hosted(app: MonitorApp) -> AsyncIterator[str]:
    """On a real socket, for what streams."""
    async with Host(app, listen(addresses("127.0.0.1"), 0), any_name=False) as host:
        yield host.url


async def events(response: httpx.Response) -> AsyncIterator[tuple[str, Any]]:
    """(event, data) as they come."""
    name = ""
    async for line in response.aiter_lines():
        key, _, value = line.partition(": ")
        if key == "event":
            name = value
        elif key == "data":
            yield name, json.loads(value)


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


# Who may look

SHIELDED = ["/", "/api/frame", "/events", "/healthz", "/metrics"]


@pytest.mark.parametrize("path", SHIELDED)
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": TOKEN},
        {"Authorization": "Bearer \udcff".encode("latin-1", "surrogateescape").decode("latin-1")},
        {"Cookie": f"redisutils-00000000={TOKEN}"},
    ],
)
@one_loop
async def test_without_the_token_nothing_is_told(
    idle: RedisPool, browse: Browse, path: str, headers: dict[str, str]
) -> None:
    app = monitor_app(idle, token=TOKEN)
    encoded = {name.encode(): value.encode("latin-1") for name, value in headers.items()}
    answer = await browse(app).get(path, headers=encoded)
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith('Bearer realm="redisutils"')
    assert TOKEN not in answer.text
    assert "127.0.0.1" not in answer.text
    assert not app.feed.running
    if path != "/":
        assert "token" in answer.json()["error"]


@one_loop
async def test_with_the_token_everything_is(idle: RedisPool, browse: Browse) -> None:
    app = monitor_app(idle, token=TOKEN)
    client = browse(app)
    for header in (BEARER, {"Authorization": f"bearer  {TOKEN}"}):
        assert (await client.get("/", headers=header)).status_code == 200
    assert "does not answer" in (await client.get("/readyz", headers=BEARER)).json()["reasons"][0]


@one_loop
async def test_probes_need_no_token_and_are_told_no_reasons(
    idle: RedisPool, browse: Browse
) -> None:
    client = browse(monitor_app(idle, token=TOKEN))
    assert (await client.get("/livez")).status_code == 200
    ready = await client.get("/readyz")
    assert (ready.status_code, ready.json()) == (503, {"ready": False})


@one_loop
async def test_a_browser_types_the_token_once(idle: RedisPool, browse: Browse) -> None:
    app = monitor_app(idle, token=TOKEN)
    client = browse(app)
    form = await client.get("/")
    assert form.status_code == 401
    assert '<form method="post" action="login">' in form.text
    for name in re.findall(r'(?:src|href)="([^"]+)"', form.text):
        assert (await client.get(name)).status_code == 200, "what the form needs, it gets"
    wrong = await client.post("/login", data={"token": "wrong"})
    assert wrong.status_code == 401
    assert "That is not the token." in wrong.text
    assert 'role="alert" hidden' in form.text
    assert 'role="alert" hidden' not in wrong.text
    assert not client.cookies
    right = await client.post("/login", data={"token": f" {TOKEN} "})
    assert right.status_code == 303
    cookie = right.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=strict" in cookie
    assert TOKEN not in cookie
    assert (await client.get("/")).status_code == 200
    assert (await client.get("/login")).status_code == 303


@one_loop
async def test_over_https_the_cookie_stays_on_https(idle: RedisPool, browse: Browse) -> None:
    client = browse(monitor_app(idle, token=TOKEN), base="https://monitor.example")
    assert "Secure" in (await client.post("/login", data={"token": TOKEN})).headers["set-cookie"]


@one_loop
async def test_behind_a_proxy_with_tls_the_cookie_stays_on_https(
    idle: RedisPool, browse: Browse
) -> None:
    for base, told, secure in [
        ("http://monitor.example", "https", True),
        ("http://monitor.example", "HTTPS, http", True),
        ("http://monitor.example", "http", False),
        ("https://monitor.example", "http", True),
    ]:
        client = browse(monitor_app(idle, token=TOKEN), base=base)
        headers = {"X-Forwarded-Proto": told}
        answer = await client.post("/login", data={"token": TOKEN}, headers=headers)
        assert ("Secure" in answer.headers["set-cookie"]) is secure, (base, told)


@one_loop
async def test_a_session_is_for_where_the_browser_finds_the_form(
    idle: RedisPool, browse: Browse
) -> None:
    """A proxy may serve it below a path that the application does not know of."""
    answer = await browse(monitor_app(idle, token=TOKEN)).post("/login", data={"token": TOKEN})
    assert "path" not in answer.headers["set-cookie"].lower()  # the browser takes the form's


@one_loop
async def test_sessions_of_several_monitors_do_not_get_into_each_others_way(
    idle: RedisPool, browse: Browse
) -> None:
    """A browser sends what one has set to all others on the same host, whatever their ports, and
    below the same path."""
    tokens = {"/below": TOKEN[::-1], "": TOKEN}
    client = browse(
        Starlette(routes=[Mount(path, monitor_app(idle, token=tokens[path])) for path in tokens])
    )
    for _ in range(2):
        for path, token in tokens.items():
            await client.post(f"{path}/login", data={"token": token})
    for path in tokens:
        assert (await client.get(f"{path}/")).status_code == 200, path


@one_loop
async def test_a_session_holds_whatever_a_proxy_is_told(idle: RedisPool, browse: Browse) -> None:
    """The password of a proxy in front stands in the header that is ours elsewhere."""
    client = browse(monitor_app(idle, token=TOKEN), auth=("somebody", "and their password"))
    assert (await client.get("/")).status_code == 401
    await client.post("/login", data={"token": TOKEN})
    assert (await client.get("/")).status_code == 200


def test_a_session_ends_after_twelve_hours_whatever_is_asked_for_in_it() -> None:
    now = 1_700_000_000.0
    access = Access(Secret(TOKEN), clock=lambda: now)
    session = access.begin()
    for _ in range(12):
        assert access.allows(None, session)
        now += SESSION_SECONDS / 12
    assert not access.allows(None, session)


def test_every_worker_knows_the_sessions_of_its_token() -> None:
    session = Access(Secret(TOKEN)).begin()
    assert Access(Secret(TOKEN)).allows(None, session)
    assert not Access(Secret(TOKEN + "x")).allows(None, session)
    assert session != Access(Secret(TOKEN)).begin()
    end, nonce, signature = session.split(".")
    for forged in (
        f"{int(end) + 1}.{nonce}.{signature}",
        f"{end}.x.{signature}",
        f"{end}.{nonce}.{signature[:-1]}",
        f"{end}.{nonce}.",
        f"{'9' * 5000}.{nonce}.{signature}",
        "",
        ".",
        "..",
        "\udcff.\udcff.\udcff",
    ):
        assert not Access(Secret(TOKEN)).allows(None, forged), forged


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("", "token is empty: make one with"),
        ("short", "token has 5 characters, must have 16 to 512"),
        ("x" * 513, "token has 513 characters"),
        ("sixteen or more, with spaces", "has a space"),
        ("sechzehn-Zeichen-müssen-es-sein", "not ASCII"),
    ],
)
@one_loop
async def test_a_poor_token_is_refused_and_not_repeated(
    idle: RedisPool, token: str, told: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        monitor_app(idle, token=token)
    assert told in str(caught.value)
    assert not token or token not in str(caught.value)
    assert TOKEN not in repr(check_token(TOKEN, "token"))


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
    for path in ["/livez", "/readyz", "/style.css", *SHIELDED]:
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
    app._page["style.css"] = File(b"x" * 8_000_000, "text/css", '"large"')  # than any buffer
    async with hosted(app) as url, httpx.AsyncClient(base_url=url) as client:
        async with client.stream("GET", "/events") as watching:
            assert watching.status_code == 200
            clients = []
            for _ in range(12):
                clients.append(await sent_to(url, sent))
                clients[-1][1].transport.pause_reading()  # type: ignore[attr-defined]
                answer = await client.get("/livez", headers={"Connection": "close"})
                assert answer.status_code == 200
            lines = watching.aiter_lines()
            assert await anext(lines) == "retry: 1000", "what is answered stays"
        reader, writer = clients[0]
        writer.transport.resume_reading()  # type: ignore[attr-defined]
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
        writer.transport.pause_reading()  # type: ignore[attr-defined]
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
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await until(lambda: app.feed.viewers == 1)
        await until(lambda: app.feed.viewers == 0)
        writer.write(request("/livez"))
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        taken = b""
        async with asyncio.timeout(8):
            while not taken.endswith(b"alive\n") and (piece := await reader.read(2**20)):
                taken += piece
        assert b"\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n" in taken
        writer.close()
    assert not complaints(caplog)


def test_there_is_room_for_the_pool_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    resource = pytest.importorskip("resource", reason="Windows has no such limit")
    for files, expected in [(256, 192), (100, 50), (10**6, 1024), (resource.RLIM_INFINITY, 1024)]:
        monkeypatch.setattr(resource, "getrlimit", lambda _, files=files: (files, files))
        assert protocol.room() == expected


# Streams


async def test_a_viewer_gets_the_history_and_then_each_frame(pool: RedisPool) -> None:
    app = quick(pool)
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
        await coming.aclose()  # type: ignore[attr-defined]  # it is a generator


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


def test_every_file_of_the_page_can_be_served() -> None:
    folder = Path(app_module.__file__).parent / "page"
    served = read_page()
    assert {path.name for path in folder.iterdir() if path.is_file()} == set(served)
