"""``redisutils top``: what it shows is what is, whoever sends it, on whatever terminal."""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from redisutils import RedisPool
from redisutils.cli.app import app
from redisutils.cli.top import events as events_module
from redisutils.cli.top.events import Address, EventsFailed, read_events
from redisutils.cli.top.reading import read_frame, read_frames
from redisutils.cli.top.run import Options, show
from redisutils.cli.top.screen import Screen, plain_line
from redisutils.cli.top.source import News, OwnPool, Remote
from redisutils.monitor.frame import Frame
from redisutils.secret import Secret
from redisutils.testing import EmbeddedServer
from tests.ours import pool_at

pytest.importorskip("uvicorn")

from redisutils.cli.serve.hosting import Host, addresses, listen
from redisutils.monitor.app import monitor_app

TOKEN = "a-token-of-many-characters"


@pytest.fixture(autouse=True)
def no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("REDIS")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)  # where there is no .env


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    async with pool_at(clean_server) as pool:
        yield pool


@asynccontextmanager
async def dashboard(pool: RedisPool, port: int = 0, token: str | None = None) -> AsyncIterator[str]:
    """The dashboard of ``pool``; its address."""
    async with Host(
        monitor_app(pool, token=token), listen(addresses("127.0.0.1"), port), any_name=True
    ) as it:
        yield it.url


def address(url: str) -> Address:
    return Address.of(url)


def top(*arguments: str, **environment: str) -> Any:
    """The command in this process."""
    return CliRunner().invoke(app, ["top", *arguments], env=environment)


def plain(text: str) -> str:
    """Without what a terminal obeys."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def shown(screen: Screen, width: int = 80, height: int | None = None) -> str:
    return "\n".join(line.plain for line in screen.lines(width, height))


async def first(news: AsyncIterator[News], wanted: Callable[[News], object]) -> News:
    async with asyncio.timeout(20):
        async for each in news:
            if wanted(each):
                return each
    raise AssertionError("it ended")


# From a dashboard


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_what_a_pool_does_is_seen(pool: RedisPool) -> None:
    async with dashboard(pool) as url:
        news: Any = Remote(address(url), None).news()  # a generator
        screen = Screen("x")
        await first(news, lambda each: each.frames)
        for number in range(50):
            await pool.client.set(f"trading:price:{number}", "1")
            await pool.client.get("trading:price:1")
        await pool.lane("orders").incr("n")

        def seen(each: News) -> bool:
            screen.take(each)
            return "GET" in [command["name"] for command in each.frames[-1]["commands"]]

        await first(news, seen)
        await news.aclose()
    text = shown(screen)
    for part in ("healthy", "default ok", "orders ok", "GET", "SET", "2 of 10", "persistence"):
        assert part in text
    assert screen.latest is not None
    assert f"{screen.latest['throughput']['commands']:,.0f} commands/s" in text


async def test_a_lost_dashboard_is_told_and_found_again(pool: RedisPool) -> None:
    async with dashboard(pool) as url:
        news: Any = Remote(address(url), None, pause=0.05).news()  # a generator
        await first(news, lambda each: each.frames)
    screen = Screen("x")
    screen.take(News((frame(),)))
    lost = await first(news, lambda each: each.trouble)
    screen.take(lost)
    assert "lost" in shown(screen)
    assert "trying again. What is below is old." in shown(screen)
    assert "healthy" not in shown(screen)
    (old,) = [line for line in screen.lines(80) if "commands/s  " in line.plain]
    assert {str(span.style) for span in old.spans} == {"bright_black"}
    await first(news, lambda each: "cannot be reached" in (each.trouble or ""))
    async with dashboard(pool, int(url.rstrip("/").rpartition(":")[2])):
        screen.take(await first(news, lambda each: each.frames))
        assert "healthy" in shown(screen)
        await news.aclose()


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_a_token_is_sent_and_never_shown(pool: RedisPool, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(f"{TOKEN}\n")
    async with dashboard(pool, token=TOKEN) as url:
        for arguments, environment in (
            ((), {"REDISUTILS_TOKEN": TOKEN}),
            (("--token-file", str(path)), {}),
        ):
            done = await asyncio.to_thread(top, url, "--once", *arguments, **environment)
            assert done.exit_code == 0, done.output
            assert "healthy" in done.stdout
            assert TOKEN not in done.output
        done = await asyncio.to_thread(top, url, "--once")
        assert done.exit_code == 1
        assert "wants a token: set REDISUTILS_TOKEN" in done.output
        wrong = "another-token-of-many"
        done = await asyncio.to_thread(top, url, "--once", REDISUTILS_TOKEN=wrong)
        assert done.exit_code == 1
        assert "refuses this token" in done.output
        assert wrong not in done.output


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_json_is_a_frame_a_line(pool: RedisPool) -> None:
    async with dashboard(pool) as url:
        done = await asyncio.to_thread(top, url, "--json", "--count", "2")
        lines = await asyncio.to_thread(top, url, "--count", "2")
    assert done.exit_code == 0, done.output
    frames = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(frames) == 2
    assert frames[0]["at"] < frames[1]["at"]
    assert frames[0]["health"]["status"] == "healthy"
    # Where there is no terminal: a line for each.
    assert len(lines.stdout.splitlines()) == 2
    assert "pool 1 of 10, 0 waiting" in lines.stdout


# With a pool of its own


def test_the_configured_server_is_asked(
    clean_server: EmbeddedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = top("--once", REDIS_URL=clean_server.url)
    assert done.exit_code == 0, done.output
    for part in ("● healthy", "our PINGs", "commands/s, everybody's", "memory", "clients"):
        assert part in done.stdout
    assert "\x1b" not in done.stdout
    assert all(len(line) <= 80 for line in done.stdout.splitlines())


def test_a_dead_server_is_exit_code_1() -> None:
    done = top("--once", REDIS_URL="redis://127.0.0.1:1", REDIS_MAX_RETRIES="0")
    assert done.exit_code == 1
    assert "✖ unhealthy" in done.stdout
    assert "refused" in done.stdout


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_our_pings_are_measured(clean_server: EmbeddedServer) -> None:
    source = OwnPool(pool_at(clean_server).config)
    news: Any = source.news()  # a generator
    found = await first(news, lambda each: each.frames[-1]["latency"]["count"] > 5)
    await news.aclose()
    assert found.frames[-1]["latency"]["p99"]


# On a terminal

DEAD = {"REDIS_URL": "redis://127.0.0.1:1", "REDIS_MAX_RETRIES": "0"}
"""Settings of a server that is not there: what the terminal shows of it is certain."""


def in_terminal(*arguments: str, **environment: str) -> tuple[subprocess.Popen[bytes], int]:
    import fcntl
    import pty
    import struct
    import termios

    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-c", "from redisutils.cli import main; main()", "top", *arguments],
        stdin=theirs, stdout=theirs, stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color", **environment},
    )  # fmt: skip
    os.close(theirs)
    return process, ours


def read_until(fileno: int, *wanted: str) -> str:
    """What it writes until all of this has come; without any, until it ends."""
    found = b""
    while not wanted or not all(each in plain(found.decode(errors="replace")) for each in wanted):
        ready, _, _ = select.select([fileno], [], [], 20)
        assert ready, f"nothing more came after {found.decode(errors='replace')!r}"
        try:
            piece = os.read(fileno, 65_536)
        except OSError:
            piece = b""
        if not piece:
            break
        found += piece
    text = found.decode(errors="replace")
    assert all(each in plain(text) for each in wanted), f"it ended with {text!r}"
    return text


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
def test_keys_and_sizes_of_a_terminal() -> None:
    import fcntl
    import struct
    import termios

    process, terminal = in_terminal(**DEAD)
    try:
        text = read_until(terminal, "✖ unhealthy", "q quits")
        assert "\x1b[?1049h" in text  # a screen of its own
        os.write(terminal, b" ")
        read_until(terminal, "paused")
        os.write(terminal, b" ")
        read_until(terminal, "q quits, space pauses")
        fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 12, 50, 0, 0))
        process.send_signal(signal.SIGWINCH)
        read_until(terminal, "q quits")
        os.write(terminal, b"q")
        assert "\x1b[?1049l" in read_until(terminal)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


@pytest.mark.skipif(sys.platform == "win32", reason="there are no such terminals")
@pytest.mark.parametrize("colours", [True, False])
def test_ctrl_c_ends_it_and_the_terminal_is_as_before(colours: bool) -> None:
    import termios

    environment = {} if colours else {"NO_COLOR": "1"}
    process, terminal = in_terminal(**DEAD, **environment)
    try:
        before = termios.tcgetattr(terminal)
        text = read_until(terminal, "✖ unhealthy")
        assert termios.tcgetattr(terminal) != before  # keys come one by one
        assert ("\x1b[1;31m" in text) is colours
        process.send_signal(signal.SIGINT)
        assert "\x1b[?1049l" in read_until(terminal)
        assert termios.tcgetattr(terminal) == before
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        os.close(terminal)


def test_whoever_reads_it_may_go() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", "from redisutils.cli import main; main()", "top", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env={**os.environ, "REDIS_URL": DEAD["REDIS_URL"]},
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        for _ in range(2):  # until PINGs have run out of time, which is logged elsewhere
            process.stdout.readline()
        process.stdout.close()
        assert process.wait(20) == 141
        assert process.stderr.read() == b""


# The picture


def frame(**others: Any) -> Frame:
    """One as it comes from elsewhere, with all that there can be."""
    split = {"wait": 0.0, "queue": 1e-5, "wire": 1e-4, "loop": 2e-5, "parse": 1e-6}
    given: dict[str, Any] = {
        "at": 1_700_000_000.0, "seconds": 1.0, "endpoint": "redis.internal:6379", "closed": False,
        "health": {"status": "healthy", "reasons": [], "round_trip": 0.0003},
        "throughput": {"commands": 12345.6, "failures": 0.0, "bytes_in": 1e6, "bytes_out": 2e6},
        "latency": {"count": 9, "mean": 1e-4, "p50": 1e-4, "p95": 2e-4, "p99": 3e-3, "p999": 4e-3,
                    "max": 0.5},
        "split": dict.fromkeys(("mean", "p50", "p95", "p99", "p999"), split),
        "heat": [[0.001, 7]],
        "pool": {"max_size": 10, "size": 9, "in_use": 9, "waiting": 3},
        "in_flight": 17, "in_flight_bytes": 1234,
        "lanes": [{"name": f"lane{n}", "connected": n != 1, "in_flight": 3, "waiting": n,
                   "blocked": n == 2} for n in range(9)],
        "errors": [{"name": "CommandTimeout", "outcome": "NOT_SENT", "rate": 0.5, "total": 7}],
        "retries": [{"reason": "LOADING", "rate": 1.5, "total": 9}],
        "commands": [{"name": f"CLIENT COMMAND{n}", "rate": 1.0, "mean": 1e-4, "p50": 1e-4,
                      "p99": 1e-3, "errors": float(n), "split": split} for n in range(12)],
        "slow": [{"at": 1_699_999_900.0, "command": "HGETALL", "key": "k" * 9,
                  "server": "elsewhere:6379",
                  "request_bytes": 99, "reply_size": None, "seconds": 1.5, "split": split}] * 32,
        "breaker": {"state": "open", "seconds": 3.0, "failures": 5, "trips": 1, "refused": 12,
                    "error": "refused"},
        "process": {"loop_lag_p50": 1e-5, "loop_lag_p99": 0.02, "loop_lag_max": 0.03,
                    "gc_pauses": 1.0, "gc_pause_max": 0.001, "memory": 50_000_000, "cpu": 0.37},
        "server": {"kind": "valkey", "version": "9.0.1", "role": "replica", "uptime": 90_000,
                   "used_memory": 95, "maxmemory": 100, "eviction_policy": "allkeys-lru",
                   "clients": 12, "maxclients": 100, "ops": 5.0, "hit_rate": 0.5, "replicas": 1,
                   "replication_lag": 2.0, "loading": True, "persistence": "failing", "keys": 7},
    }  # fmt: skip
    return read_frame(json.dumps({**given, **others}).encode())


def test_all_that_there_is_is_shown() -> None:
    screen = Screen("x")
    screen.take(News((frame(), frame())))
    text = shown(screen, 130)
    for part in (
        "12,346 commands/s", "99 3.00 ms", "9 of 10", "3 waiting", "lane1 down", "lane2 full",
        " more", "CommandTimeout not sent 0.5/s", "sent again: 1.5/s, mostly",
        "circuit breaker open for 3.00 s: 12 calls refused; refused", "CLIENT COMMA…", "HGETALL",
        "1 m 40 s", "1 replica, last heard 2.00 s ago", "95 B of 100 B", "12 of 100", "allkeys-lru",
        "persistence failing", "loading its data", "37 % of a core", "20.0 ms", "valkey 9.0.1",
        "1 d",
    ):  # fmt: skip
        assert part in text, part


@pytest.mark.parametrize("own", [False, True])
def test_it_fits_every_terminal(own: bool) -> None:
    reasons = [f"reason {number}: {'word ' * 60}" for number in range(5)]
    worst = frame(health={"status": "unhealthy", "reasons": reasons, "round_trip": None})
    nothing = read_frame(b"{}")
    for frames in ((), (nothing,), (frame(),) * 400, (worst,)):
        for trouble in (None, "lost " * 50):
            screen = Screen("x" * 200, own=own)
            screen.take(News(frames, trouble=trouble))
            for width in (44, 80, 131, 200):
                for height in (3, 10, 24, 40, 60):
                    lines = screen.lines(width, height)
                    assert len(lines) <= height
                    assert max(line.cell_len for line in lines) <= width
                    assert lines[-1].plain.strip().startswith("q quits")


def nodes(count: int) -> list[dict[str, Any]]:
    """Primaries, each with a replica after it. The third primary is down."""
    found: list[dict[str, Any]] = []
    for number in range(count):
        name, quiet = f"redis-{number}:6379", {"in_flight": 0, "p99": None, "rate": 0.0}
        primary = {
            "endpoint": name, "role": "primary", "status": "healthy", "reachable": True,
            "connected": True, "slots": 1 / count, "rate": 1000.0 * (number + 1), "p99": 0.002,
            "in_flight": 7, "breaker": "closed",
        }  # fmt: skip
        if number == 2:
            primary |= {"reachable": False, "status": "unhealthy", "breaker": "open", **quiet}
        replica = {
            "endpoint": f"{name}0", "role": "replica", "reachable": True, "breaker": "closed",
            "follows": name, "lag": 1.0, "behind": 2_000, **quiet,
        }  # fmt: skip
        found += [primary, replica]
    return found


def test_each_of_three_nodes_has_its_line() -> None:
    screen = Screen("somewhere")
    screen.take(News((frame(nodes=nodes(3), nodes_in_all=6),)))
    text = shown(screen, 130)
    assert "kkk at elsewhere:6379" in text
    assert re.search(r"● redis-0:6379 +healthy +33% +1.00k +━+╸? +2.00 ms +7", text)
    assert re.search(r"↳ redis-0:63790 +replica +1.00 s ago, 2.0 kB unconfirmed", text)
    assert re.search(r"✖ redis-2:6379 +down, refused +33%", text)
    assert text.index("redis-1:6379") < text.index("redis-2:6379")
    assert "more, of which" not in text
    narrow = shown(screen, 70)
    assert "in flight   heard" not in narrow
    assert re.search(r"redis-0:6379 +healthy +33% +1.00k +2.00 ms", narrow)


def test_of_fifty_nodes_those_in_trouble_are_seen() -> None:
    screen = Screen("somewhere")
    screen.take(News((frame(nodes=nodes(50), nodes_in_all=130),)))
    text = shown(screen, 100, 40)
    assert "✖ redis-2:6379" in text
    rows = [line for line in text.splitlines() if "redis-" in line]
    assert f"and {130 - len(rows)} more, of which nothing is to be said" in text
    assert not any("↳" in row for row in rows)
    assert "GET" in text  # the busiest commands have their part


def test_small_terminals_show_the_busiest_tall_ones_the_slowest_too() -> None:
    screen = Screen("x")
    screen.take(News((frame(breaker={"state": "closed"}),)))
    assert "busiest" in shown(screen, 80, 24)
    assert "slowest" not in shown(screen, 80, 24)
    assert "slowest" in shown(screen, 80, 45)


def test_a_pause_holds_the_picture_and_loses_nothing() -> None:
    screen = Screen("x")
    screen.take(News((frame(),)))
    screen.pause()
    screen.take(News((frame(endpoint="elsewhere:1"),)))
    assert "redis.internal" in shown(screen, 80, 40)
    assert "paused" in shown(screen, 80, 40)
    screen.pause()
    assert "elsewhere:1" in shown(screen, 80, 40)
    assert "≤" in shown(screen, 80, 40)  # of both frames


def test_a_line_for_logs() -> None:
    line = plain_line(frame(health={"status": "degraded", "reasons": ["one", "two"]}))
    assert line.endswith("pool 9 of 10, 3 waiting  (one; two)")
    assert "degraded" in line
    assert "12,346/s" in line


def test_no_frame_can_command_the_terminal() -> None:
    evil = "\x1b]0;owned\x07\x9b2J\r\n\u202e"
    spoiled = frame(
        endpoint=evil,
        health={"status": evil, "reasons": [evil]},
        slow=[{"command": evil, "key": evil}],
        errors=[{"name": evil, "outcome": evil, "rate": 1}],
    )
    screen = Screen("x")
    screen.take(News((spoiled,)))
    out = io.StringIO()
    console = Console(file=out, width=100, force_terminal=True, color_system=None)
    for line in screen.lines(100):
        console.print(line)
    text = out.getvalue() + plain_line(spoiled)
    assert all(character.isprintable() or character == "\n" for character in text)


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.data())
def test_any_frame_can_be_drawn(data: st.DataObject) -> None:
    whole: Any = frame()
    for name in data.draw(st.lists(st.sampled_from(sorted(whole)), max_size=4)):
        part = whole[name]
        if isinstance(part, dict) and part and data.draw(st.booleans()):
            part[data.draw(st.sampled_from(sorted(part)))] = data.draw(anything)
        elif isinstance(part, list) and data.draw(st.booleans()):
            part.append(data.draw(anything))
        else:
            whole[name] = data.draw(anything)
    found = read_frame(json.dumps(whole).encode())
    screen = Screen("x")
    screen.take(News((found,)))
    assert shown(screen, 80, 50)
    assert plain_line(found)


@pytest.mark.parametrize("junk", [b"", b"[]", b"null", b"7", b"{", b"\xff"])
def test_junk_is_no_frame(junk: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011  # the kinds differ, and so do their words
        read_frame(junk)
    if junk != b"[]":
        with pytest.raises(ValueError):  # noqa: PT011  # as above
            read_frames(junk)


# Addresses, and who answers there


@pytest.mark.parametrize(
    ("url", "path", "shown_as"),
    [
        ("http://127.0.0.1:9121", "/events", "http://127.0.0.1:9121/"),
        ("http://127.0.0.1:9121/", "/events", "http://127.0.0.1:9121/"),
        ("http://[::1]:1/redis/", "/redis/events", "http://[::1]:1/redis/"),
        ("https://shop.example/redis", "/redis/events", "https://shop.example/redis/"),
        ("http://a/redis/events", "/redis/events", "http://a/redis/"),
    ],
)
def test_an_address(url: str, path: str, shown_as: str) -> None:
    found = Address.of(url)
    assert (found.path, found.shown) == (path, shown_as)
    assert found.port in (9121, 1, 80, 443)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["ftp://a/"], "'ftp://a/' is no address of a dashboard or server; right is http://127"),
        (["localhost:9121"], "is no address of a dashboard"),
        (["http://"], "is no address of a dashboard"),
        (["http://a:99999/"], "right is http://127.0.0.1:9121/"),
        (["http://a b/"], "is no address of a dashboard"),
        (["http://a/\r\nX: y"], "is no address of a dashboard"),
        (["http://me:sesame@a/"], "has no place in it; the token comes from REDISUTILS_TOKEN"),
        (["http://a/", "--token-file", "absent"], "--token-file absent: cannot be read: No such"),
        (["http://a/", "--token-file", "short"], "has 5 characters, must have 16"),
        (["http://a/", "--token-file", "binary"], "is no text"),
        (["--count", "0"], "--count"),
    ],
)
def test_wrong_options(arguments: list[str], told: str) -> None:
    Path("short").write_text("12345")
    Path("binary").write_bytes(b"\xff\xfe")
    done = top(*arguments)
    assert done.exit_code == 2, done.output
    assert told in " ".join(re.sub(r"[│╭╮╰╯─]", "", done.output).split())
    assert "sesame" not in done.output
    assert "12345" not in done.output


def test_wrong_settings_of_the_server() -> None:
    done = top("--once", REDIS_PORT="zero")
    assert done.exit_code == 2
    assert "REDIS_PORT" in done.output


HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
EVENT = b"event: frame\ndata: {}\n\n"


@asynccontextmanager
async def answering(*pieces: bytes, hold: bool = False) -> AsyncIterator[str]:
    """A server that answers with these bytes, whatever it is asked."""
    open_until = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
            if hold:
                await open_until.wait()
        except OSError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        open_until.set()
        server.close()


async def events_of(url: str) -> list[tuple[str, bytes]]:
    async with asyncio.timeout(20):
        return [event async for event in read_events(Address.of(url), None)]


@pytest.mark.parametrize(
    ("pieces", "expected"),
    [
        ([HEAD + b"\r\n" + EVENT], [("frame", b"{}")]),
        ([HEAD + b"\r\n: hello\r\n\r\ndata:1\r\ndata: 2\r\n\r\n"], [("message", b"12")]),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n17\r\n", EVENT, b"\r\n0\r\n\r\n"],
         [("frame", b"{}")]),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"8;x=y\r\nevent: f\r\n", b"f\r\n",
          EVENT[8:], b"\r\n0\r\n\r\n"], [("frame", b"{}")]),
        ([HEAD + b"\r\n" + EVENT + b"event: frame\ndata: {"], [("frame", b"{}")]),
        ([HEAD + b"Transfer-Encoding: chunked\r\n\r\n17\r\n" + EVENT[:9]], []),
    ],
)  # fmt: skip
async def test_events_in_all_shapes(pieces: list[bytes], expected: list[tuple[str, bytes]]) -> None:
    async with answering(*pieces) as url:
        assert await events_of(url) == expected
    # And a byte at a time.
    whole = b"".join(pieces)
    async with answering(*[whole[at : at + 1] for at in range(len(whole))]) as url:
        assert await events_of(url) == expected


@pytest.mark.parametrize(
    ("answer", "told", "final"),
    [
        (b"HTTP/1.1 404 Not Found\r\nContent-Type: text/html\r\n\r\n", "events answer 404", True),
        (b"HTTP/1.1 302 Found\r\nLocation: http://evil/\r\n\r\n", "events answer 302", True),
        (b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n", "answer 200 text/html", True),
        (b"HTTP/1.1 401 No\r\n\r\n", "wants a token", True),
        (b"HTTP/1.1 503 No\r\n\r\n", "no room for another viewer", False),
        (b"-ERR unknown command 'GET'\r\n\r\n", "what it sends is not HTTP", False),
        (b"\x00\r\n\r\n", "what it sends is not HTTP", False),
        (b"x" * 100_000, "what it sends is not HTTP", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", "what it sends is not HTTP", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n", "what it sends is not HTTP", False),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\nabc", "not HTTP", False),
        (HEAD + b"\r\ndata: " + b"x" * 9000, "sends an event of more than 5,000 bytes", False),
        (HEAD + b"\r\n" + b"data: x\n" * 9000, "sends an event of more than 5,000 bytes", False),
    ],
)
async def test_what_is_no_dashboard_is_told(
    answer: bytes, told: str, final: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events_module, "MAX_EVENT", 5000)
    async with answering(answer, hold=True) as url:
        with pytest.raises(EventsFailed, match=told) as caught:
            await events_of(url)
    assert caught.value.final is final
    assert url in str(caught.value)


@pytest.mark.parametrize("answer", [b"", HEAD, HEAD + b"\r\n", HEAD + b"\r\n" + EVENT])
async def test_silence_is_told(answer: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events_module, "SILENCE", 0.1)
    monkeypatch.setattr(events_module, "CONNECTING", 0.3)
    async with answering(answer, hold=True) as url:
        with pytest.raises(EventsFailed, match="has gone silent"):
            await events_of(url)


@pytest.mark.parametrize("data", [b"nonsense", b"[1]", b"[" * 100_000, b"7"])
async def test_frames_that_are_none_end_it(data: bytes) -> None:
    async with answering(HEAD + b"\r\nevent: frame\ndata: " + data + b"\n\n") as url:
        news: Any = Remote(Address.of(url), None, pause=0.01).news()  # a generator
        assert "is no frame" in ((await anext(news)).trouble or "")
        await news.aclose()


async def test_nobody_there() -> None:
    with pytest.raises(EventsFailed, match=r"http://127\.0\.0\.1:1/ cannot be reached: "):
        await events_of("http://127.0.0.1:1/")
    done = await asyncio.to_thread(top, "http://127.0.0.1:1/")
    assert done.exit_code == 1
    assert done.output.startswith("redisutils top: http://127.0.0.1:1/ cannot be reached")


async def test_the_token_goes_out_as_a_bearer_and_a_host_is_named() -> None:
    asked: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(HEAD + b"\r\n")
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    url = f"http://localhost:{port}/redis/"
    found = [event async for event in read_events(Address.of(url), Secret(TOKEN))]
    server.close()
    assert found == []
    lines = asked[0].decode().split("\r\n")
    assert lines[0] == "GET /redis/events HTTP/1.1"
    assert f"Host: localhost:{port}" in lines
    assert f"Authorization: Bearer {TOKEN}" in lines


@pytest.mark.asyncio(loop_factories=["uvloop"])
async def test_it_ends_when_it_is_told_to(pool: RedisPool) -> None:
    async with dashboard(pool) as url:
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, width=80, height=24)
        assert await show(Remote(Address.of(url), None), Options(count=1), console) == 0
    assert "\x1b[?1049l" in out.getvalue()
    assert "q quits" in plain(out.getvalue())


def test_help_has_examples_a_line_each() -> None:
    lines = [line.strip() for line in top("--help").stdout.splitlines()]
    assert "redisutils top --json --count 60 > minute.jsonl" in lines
    assert any(line.startswith("1  the last of them is unhealthy") for line in lines)


def test_it_needs_no_extra_but_the_command_line() -> None:
    hidden = "import sys; sys.modules['starlette'] = sys.modules['uvicorn'] = None"
    done = subprocess.run(
        [sys.executable, "-c", f"{hidden}; from redisutils.cli import main; main()", "top", "-h"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "ModuleNotFoundError" not in done.stderr
