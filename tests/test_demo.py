"""``redisutils demo``: it finds what is wrong, and says so by its exit code."""

import gzip
import io
import itertools
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner, Result

from redisutils import Redis, create_redis_pool
from redisutils.cli.app import app
from redisutils.cli.demo import desk as desk_module
from redisutils.cli.demo.desk import Checks, Desk, EventsLost
from redisutils.cli.demo.figures import KINDS, History, Sample, Timings
from redisutils.cli.demo.frame import milliseconds, sparkline
from redisutils.cli.demo.loop import TradingLoop
from redisutils.cli.demo.market import INSTRUMENTS, Trade, simulated_market
from redisutils.cli.demo.run import Options, run
from redisutils.cli.demo.tape import MAX_LINE, Tape, TapeError
from redisutils.cli.log import configure_logging

HEAD = "DateTime,Price,Volume\n"
LINE = "2024-01-31 17:00:00.083,1640.25,8\n"


@pytest.fixture
async def client() -> AsyncIterator[Redis]:
    async with create_redis_pool(url="embedded://") as pool:
        yield pool.client


pytestmark = pytest.mark.usefixtures("empty_surroundings")


def command(*arguments: str, prologue: str = "") -> list[str]:
    """The command line, after running ``prologue`` in the same process."""
    start = f"import sys; {prologue or 'pass'}; from redisutils.cli import main; main()"
    return [sys.executable, "-c", start, *arguments]


def finished(*arguments: str, prologue: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(*arguments, prologue=prologue),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def asked(*arguments: str) -> Result:
    """The same in this process, where nothing depends on its being one of its own."""
    done = CliRunner().invoke(app, ["demo", *arguments])
    assert isinstance(done.exception, SystemExit), done.exception  # no traceback
    return done


def tape(tmp_path: Path, body: str, name: str = "es-trades.csv", head: str = HEAD) -> Path:
    path = tmp_path / name
    path.write_bytes((head + body).encode())
    return path


# The market


def test_the_same_seed_gives_the_same_market() -> None:
    one, two, other = (list(itertools.islice(simulated_market(seed), 500)) for seed in (7, 7, 8))
    assert one == two != other


def test_prices_are_whole_positive_ticks() -> None:
    ticks = {each.symbol: each.tick for each in INSTRUMENTS}
    seen = set()
    for trade in itertools.islice(simulated_market(), 20_000):
        assert trade.price > 0
        assert trade.price % ticks[trade.symbol] == 0
        assert trade.lots >= 1
        seen.add((trade.symbol, trade.price))
    assert len({symbol for symbol, _ in seen}) == len(INSTRUMENTS)
    assert len(seen) > 20 * len(INSTRUMENTS)  # and they move


# The tape


def test_a_tape_is_read_plain_and_gzipped(tmp_path: Path) -> None:
    body = LINE + "2024-01-31 17:00:01.083,-1.5,1\r\n\n"
    plain = tape(tmp_path, body)
    zipped = tmp_path / "cl.gz.dat"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(Tape(plain)) == [
        Trade("ES", Decimal("1640.25"), 8, 0.0),
        Trade("ES", Decimal("-1.5"), 1, 1.0),
    ]
    assert [trade.symbol for trade in Tape(zipped)] == ["CL", "CL"]
    assert list(Tape(plain)) == list(Tape(plain))


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("2024-01-31 17:00:01,1640.25", ":3: must have 3 fields, has 2"),
        ("yesterday,1640.25,8", ":3: DateTime 'yesterday'"),
        ("2024-01-31 17:00:01+00:00,1,8", ":3: DateTime"),
        ("2024-01-31 17:00:00.082,1640.25,8", ":3: DateTime '2024-01-31 17:00:00.082' is earlier"),
        ("2024-01-31 17:00:01,NaN,8", ":3: Price 'NaN'"),
        ("2024-01-31 17:00:01,1E+99,8", ":3: Price '1E+99'"),
        ("2024-01-31 17:00:01,1_0,8", ":3: Price '1_0'"),
        ("2024-01-31 17:00:01,1640.25,0", ":3: Volume '0'"),
        ("2024-01-31 17:00:01,1640.25,2.5", ":3: Volume '2.5'"),
        ("x" * (MAX_LINE + 1), f":3: longer than {MAX_LINE} bytes"),
        ("\udcff", ":3: not text"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str, told: str) -> None:
    path = tmp_path / "es.csv"
    path.write_bytes((HEAD + LINE).encode() + bad.encode(errors="surrogateescape") + b"\n")
    trades = iter(Tape(path))
    next(trades)
    with pytest.raises(TapeError) as caught:
        next(trades)
    assert f"{path}{told}" in str(caught.value)
    assert list(trades) == []


def test_a_wrong_header_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match=r"es-trades\.csv:1: must be DateTime,Price,Volume"):
        Tape(tape(tmp_path, LINE, head="Price,Volume\n"))
    with pytest.raises(TapeError, match="cannot be opened"):
        Tape(tmp_path / "absent.csv")
    with pytest.raises(TapeError, match="not a regular file"):
        Tape(tmp_path)


def test_a_truncated_gzip_is_an_error_not_an_end(tmp_path: Path) -> None:
    path = tmp_path / "es.csv.gz"
    path.write_bytes(gzip.compress((HEAD + LINE * 20_000).encode())[:-12])
    with pytest.raises(TapeError, match=r"es\.csv\.gz:\d+: cannot be read"):
        list(Tape(path))


def test_progress_through_a_tape(tmp_path: Path) -> None:
    source = Tape(tape(tmp_path, LINE * 5000))
    assert source.fraction == 0.0
    trades = iter(source)
    for _ in range(2500):
        next(trades)
    assert 0.4 < source.fraction < 0.6
    list(trades)
    assert source.fraction == 1.0


# One desk


async def test_a_desk_finds_nothing_wrong_when_nothing_is(client: Redis) -> None:
    checks = Checks()
    desk = Desk(0, "t", checks, Timings())
    for trade in itertools.islice(simulated_market(), 20):
        await desk.trade(client, trade)
    await desk.verify(client)
    assert checks.compared > 60
    assert checks.wrong == 0
    assert 0 < await client.ttl(desk.portfolio_key) <= desk_module.PORTFOLIO_TTL
    await desk.delete(client)
    assert await client.dbsize() == 0


async def test_a_portfolio_is_exact_money(client: Redis) -> None:
    desk = Desk(0, "t", Checks(), Timings())
    for price, lots in (("0.1", 3), ("0.2", 1), ("0.1", 4)):  # the fall is a sale
        await desk.trade(client, Trade("ES", Decimal(price), lots, 0.0))
    assert await client.hgetall(desk.portfolio_key) == {
        b"position:ES": b"0",
        b"trades": b"3",
        b"cash": b"-0.1",
        b"last:ES": b"0.1",
    }
    assert 0 < await client.ttl("t:price:ES:0000") <= 60


async def test_a_desk_sees_a_price_or_portfolio_that_somebody_changed(client: Redis) -> None:
    checks = Checks()
    desk = Desk(0, "t", checks, Timings())
    await desk.trade(client, Trade("ES", Decimal("1640.25"), 8, 0.0))
    await client.set("t:price:ES:0000", "1640.50")
    await desk.verify(client)
    assert checks.examples == ["t:price:ES:0000 at the end: expected b'1640.25', found b'1640.50'"]
    await client.delete("t:price:ES:0000")
    await desk.verify(client)
    assert checks.wrong == 2
    await client.hincrby(desk.portfolio_key, "position:ES", 1)
    await desk.trade(client, Trade("ES", Decimal("1640.25"), 1, 0.0))
    assert checks.wrong == 4  # HINCRBY's own reply, and the book


async def test_events_must_come_in_order_and_only_once(client: Redis) -> None:
    checks = Checks()
    desk = Desk(0, "t", checks, Timings())
    for _ in range(4):
        await desk.trade(client, Trade("ES", Decimal(2), 1, 0.0))
    compared = checks.compared
    desk.receive(b"0 ES +1 2")
    desk.receive(b"3 ES +1 2")
    assert (desk.published, desk.received, desk.lost, checks.wrong) == (4, 2, 2, 0)
    assert checks.compared == compared + 2
    for late in (b"1 ES +1 2", b"3 ES +1 2", b"from elsewhere"):
        desk.receive(late)
    assert (desk.received, checks.wrong) == (2, 3)


async def test_events_that_never_come_are_lost(
    client: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk_module, "EVENT_PATIENCE", 0.05)
    monkeypatch.setattr(desk_module, "WINDOW", 3)
    desk = Desk(0, "t", Checks(), Timings())
    trade = Trade("ES", Decimal(2), 1, 0.0)
    for _ in range(3):
        await desk.trade(client, trade)
    with pytest.raises(EventsLost, match=r"desk 0000: 3 events did not arrive in 0\.05 s"):
        await desk.trade(client, trade)
    assert (desk.published, desk.lost) == (3, 3)


# All desks


async def test_the_loop_trades_all_and_leaves_nothing(client: Redis) -> None:
    loop = TradingLoop(client, itertools.islice(simulated_market(), 500), tasks=20)
    await loop.run()
    await loop.clean()
    assert loop.right
    assert loop.trades == loop.published == loop.received == 500
    assert sum(loop.timings.kinds[kind].snapshot().count for kind in KINDS[:4]) == 2000
    assert await client.dbsize() == 0


async def test_an_intruder_is_noticed(client: Redis) -> None:
    loop = TradingLoop(client, itertools.islice(simulated_market(), 300), tasks=3, run="t")
    await client.hset(f"{loop.prefix}:portfolio:0001", "intruder", "1")
    await loop.run()
    await loop.clean()
    assert not loop.right
    assert loop.checks.wrong > 0
    assert "intruder" in loop.checks.examples[0]
    assert loop.received == loop.published == 300


async def test_a_failing_command_ends_its_desk_and_the_verdict(client: Redis) -> None:
    loop = TradingLoop(client, itertools.islice(simulated_market(), 30), tasks=3, run="t")
    await client.set(f"{loop.prefix}:portfolio:0001", "not a hash")
    await loop.run()
    await loop.clean()
    assert not loop.right
    (error,) = loop.errors
    assert error.startswith("trading: ")
    assert "WRONGTYPE" in error
    assert "rejected" in error


async def test_a_tape_is_paced(client: Redis, tmp_path: Path) -> None:
    body = "".join(f"2024-01-31 17:00:00.{tenth}00,2,1\n" for tenth in (0, 4, 8))
    loop = TradingLoop(client, iter(Tape(tape(tmp_path, body))), tasks=2, speed=4.0)
    await loop.run()
    await loop.clean()
    assert loop.right
    assert loop.trades == 3
    assert 0.2 <= loop.seconds < 2


async def test_a_bad_line_in_mid_replay_spares_what_went_before(
    client: Redis, tmp_path: Path
) -> None:
    source = Tape(tape(tmp_path, LINE * 50 + "nonsense\n" + LINE))
    loop = TradingLoop(client, iter(source), tasks=5)
    await loop.run()
    await loop.clean()
    assert list(loop.errors) == [f"{source.path}:52: must have 3 fields, has 1: 'nonsense'"]
    assert (loop.trades, loop.received, loop.checks.wrong) == (50, 50, 0)
    assert not loop.right


# Figures


def test_history_is_bounded_and_loses_no_command() -> None:
    history = History(limit=8)
    for number in range(1, 101):
        history.add(Sample(number, 1.0, 10, 1, 0.1, 0.2, number / 1000, 0.0))
        assert len(history.samples) < 8
    assert sum(sample.commands for sample in history.samples) == 10 * history.samples[-1].at
    assert history.samples[-1].p99 == pytest.approx(history.samples[-1].at / 1000)


def test_sparkline_and_milliseconds() -> None:
    assert sparkline((0.0, 4.0, 8.0)) == ["▁▄█"]
    assert sparkline((2.0, 8.0), rows=2) == [" █", "▄█"]
    assert sparkline(()) == [""]
    texts = [milliseconds(value) for value in (0.0001234, 0.001234, 0.01234, 1.234)]
    assert texts == ["0.123 ms", "1.23 ms", "12.3 ms", "1,234 ms"]


# The command


def test_demo_verifies_and_ends_with_a_table(tmp_path: Path) -> None:
    done = finished("demo", "--seconds", "1.3", "--tasks", "5")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("redisutils demo: simulated market, seed 1, 5 tasks, embedded")
    assert "commands/s" in lines[1]
    assert "✓ every value read back was right, no event was lost" in done.stdout
    for figure in ("commands", "trades", "events received", "mismatches", "memory", "p99"):
        assert figure in done.stdout


def test_demo_replays_a_tape_and_draws_it(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tape(tmp_path, LINE * 300)
    done = finished("demo", "--tape", str(path), "--plot", str(tmp_path / "a.png"))
    assert done.returncode == 0, done.stderr
    assert "trades                      300" in done.stdout
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_demo_live_view() -> None:
    rich_console = pytest.importorskip("rich.console")
    out = io.StringIO()
    console = rich_console.Console(file=out, force_terminal=True, width=80, height=40)
    assert run(Options(tasks=3, seconds=0.6), console) == 0
    text = out.getvalue()
    for part in ("commands/s", "portfolio update", "waiting", "0 wrong", "Ctrl-C", "✓"):
        assert part in text


def test_demo_ends_with_the_table_on_ctrl_c() -> None:
    with subprocess.Popen(
        command("demo", "--seconds", "50"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "commands/s" in line:
                break
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert "✓ ended early; every value read back was right" in out
    assert "Traceback" not in err


def test_demo_serves_its_dashboard_until_ctrl_c() -> None:
    pytest.importorskip("uvicorn")
    with subprocess.Popen(
        command("demo", "--dashboard", "--tasks", "3"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        address = process.stdout.readline()
        assert address.startswith("dashboard: http://127.0.0.1:")
        with urlopen(f"{address.split()[1]}api/frame", timeout=30) as answer:
            frame = json.load(answer)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert frame["throughput"]["commands"] > 0
    assert "Traceback" not in err


def test_demo_live_view_tells_where_the_dashboard_is() -> None:
    rich_console = pytest.importorskip("rich.console")
    pytest.importorskip("uvicorn")
    out = io.StringIO()
    console = rich_console.Console(file=out, force_terminal=True, width=80, height=40)
    assert run(Options(tasks=2, trades=20, dashboard=0), console) == 0
    assert "http://127.0.0.1:" in out.getvalue()


def test_demo_with_a_dashboard_port_that_is_taken() -> None:
    pytest.importorskip("uvicorn")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = asked("--dashboard-port", str(port), "--trades", "1")
    assert done.exit_code == 2
    assert f"--dashboard-port {port}: cannot listen on 127.0.0.1:{port}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--speed", "2"], "--speed: needs --tape"),
        (["--tape", "absent.csv"], "absent.csv: cannot be opened"),
        (["--plot", "a.jpeg"], "must end in .png or .svg"),
        (["--plot", "absent/a.png"], "there is no folder absent"),
        (["--tasks", "0"], "--tasks"),
    ],
)
def test_wrong_options(arguments: list[str], told: str) -> None:
    done = asked(*arguments)
    assert done.exit_code == 2
    assert told in done.stderr


def test_demo_without_a_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1")
    monkeypatch.setenv("REDIS_MAX_RETRIES", "0")
    done = asked("--seconds", "1")
    assert done.exit_code == 1
    assert done.stderr.startswith("redisutils demo: ")
    assert "127.0.0.1" in done.stderr
    assert "Traceback" not in done.stderr


def test_dotenv_says_where_the_server_is(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("REDIS_HOST=127.0.0.1\nREDIS_PORT=1\nREDIS_MAX_RETRIES=0\n")
    assert asked("--seconds", "1").exit_code == 1


def test_missing_extras_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("typer", "rich"):
        done = finished("demo", prologue=f"sys.modules[{module!r}] = None")
        assert done.returncode == 2
        assert 'pip install "redisutils[cli]"' in done.stderr
        assert module in done.stderr
    for module in ("matplotlib", "uvicorn"):
        monkeypatch.setitem(sys.modules, module, None)
    for option, extra in ((["--plot", "a.png"], "plot"), (["--dashboard"], "monitor")):
        told = asked(*option)
        assert told.exit_code == 2
        assert f"pip install 'redisutils[{extra}]'" in told.stderr


def test_redis_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_LOG", "loud")
    done = asked("--seconds", "1")
    assert done.exit_code == 2
    assert "REDIS_LOG='loud': must be one of debug, info, warning, error" in done.stderr
    assert configure_logging("") is False
