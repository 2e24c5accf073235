"""``redisutils demo``: it finds what is wrong, and says so by its exit code."""

import gzip
import io
import itertools
import json
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest
from typer.testing import CliRunner, Result

from redisutils import RedisPool, create_redis_pool
from redisutils.cli.app import app
from redisutils.cli.demo.columns import Column, fitting, row, signed
from redisutils.cli.demo.day import TradingDay
from redisutils.cli.demo.figures import TRIPS, History, Sample
from redisutils.cli.demo.instruments import INSTRUMENTS, instrument_of
from redisutils.cli.demo.ladder import DEPTH, Ladder
from redisutils.cli.demo.run import Options, run
from redisutils.cli.demo.source import Source, TapeError, recorded, simulated
from redisutils.cli.demo.statement import draw_up
from redisutils.cli.demo.venue import EXECUTIONS_A_DAY, PATIENCE, Inbox, Nudge, Venue
from redisutils.cli.log import configure_logging
from redisutils.testing import EmbeddedServer, FaultProxy
from redisutils.trading import CancelReject, ExecType, ExecutionReport, Order, OrdStatus, Side
from redisutils.trading.market import Book, BookDelta, BookSnapshot, Trade

HEAD = "DateTime,Price,Volume\n"
LINE = "2024-01-31 17:00:00.083,1640.25,8\n"


NOON = 1_378_123_200 * 10**9
"""2013-09-02 12:00 UTC, ns."""


@pytest.fixture(autouse=True)
def no_tape(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REDISUTILS_TAPE", raising=False)


@pytest.fixture
async def pool(clean_server: EmbeddedServer) -> AsyncIterator[RedisPool]:
    host, port, password = clean_server.host, clean_server.port, clean_server.password
    async with create_redis_pool(host=host, port=port, password=password) as pool:
        yield pool


def day_of(pool: RedisPool, source: Source, trades: int | None = None, **given: Any) -> TradingDay:
    instruments = {one.symbol: one for one in source.instruments}
    return TradingDay(pool, instruments, itertools.islice(source.trades(), trades), **given)


one_loop = pytest.mark.asyncio(loop_factories=["uvloop"])

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
    assert isinstance(done.exception, SystemExit | None), done.exception  # no traceback
    return done


def tape(tmp_path: Path, body: str, name: str = "es-trades.csv", head: str = HEAD) -> Path:
    path = tmp_path / name
    path.write_bytes((head + body).encode())
    return path


# The tape


def test_the_same_seed_gives_the_same_market() -> None:
    one, two, other = (list(itertools.islice(simulated(seed).trades(), 500)) for seed in (7, 7, 8))
    assert one == two != other
    assert one == sorted(one, key=lambda trade: trade.ts_event)
    ticks = {each.symbol: each.tick for each in INSTRUMENTS}
    assert {trade.instrument for trade in one} == ticks.keys()
    assert not any(trade.price % ticks[trade.instrument] for trade in one)


def test_a_tape_is_read_plain_and_gzipped(tmp_path: Path) -> None:
    plain = tape(tmp_path, LINE + "2024-01-31 17:00:01.083,-1.5,1\r\n")
    zipped = tmp_path / "cl.csv.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    trades = list(recorded(plain).trades())
    assert [(one.price, one.quantity, one.seq) for one in trades] == [
        (Decimal("1640.25"), Decimal(8), 1),
        (Decimal("-1.5"), Decimal(1), 2),
    ]
    source = recorded(zipped)
    assert [trade.instrument for trade in source.trades()] == ["CL", "CL"]
    assert source.instruments == (instrument_of("CL", Decimal("1640.25")),)
    assert source.instruments[0].tick == Decimal("0.01")
    assert recorded(plain).instruments[0].multiplier == 50  # an ES


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ("yesterday,1640.25,8", ", line 3: DateTime='yesterday'"),
        ("2024-01-31 17:00:00.082,1,8", ": trade 401 is earlier than the one before"),
        ("2024-01-31 17:00:01,1640.25,0", ", line 3: Volume=0"),
        ("\udcff", ": 'utf-8' codec can't decode"),
        ("x" * 200_000, ": field larger than field limit"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, bad: str, told: str) -> None:
    path = tmp_path / "es.csv"
    lines = LINE * 400  # more than a buffer: what comes before is given
    path.write_bytes((HEAD + lines).encode() + bad.encode(errors="surrogateescape") + b"\n")
    trades = recorded(path).trades()
    next(trades)
    with pytest.raises(TapeError) as caught:
        list(trades)
    message = str(caught.value)
    assert str(path) in message
    assert told.replace("line 3", "line 402") in message


def test_what_is_no_tape_is_refused_at_once(tmp_path: Path) -> None:
    with pytest.raises(TapeError, match="must name the columns DateTime, Price and Volume"):
        recorded(tape(tmp_path, LINE, head="Price,Volume\n"))
    with pytest.raises(TapeError, match=r"absent\.csv: cannot be read: No such file"):
        recorded(tmp_path / "absent.csv")
    with pytest.raises(TapeError, match="not a regular file"):
        recorded(tmp_path)
    with pytest.raises(TapeError, match="there is no trade in it"):
        recorded(tape(tmp_path, ""))


def test_a_truncated_gzip_is_an_error_not_an_end(tmp_path: Path) -> None:
    path = tmp_path / "es.csv.gz"
    path.write_bytes(gzip.compress((HEAD + LINE * 20_000).encode())[:-12])
    with pytest.raises(TapeError, match=r"es\.csv\.gz, after line \d+: Compressed file ended"):
        list(recorded(path).trades())


# The market around it


def test_the_changes_of_a_ladder_make_its_book() -> None:
    (es, *_), trades = INSTRUMENTS, simulated(1).trades()
    ladder, book = Ladder(es, 1), Book(es.tick, depth=DEPTH)
    of_es = (one for one in trades if one.instrument == "ES")
    for seq, trade in enumerate(itertools.islice(of_es, 2000), 1):
        ladder.trade(trade)
        bid, bid_size, ask, ask_size = ladder.top()
        assert trade.price in (bid, ask)
        assert ask - bid == es.tick
        bids, asks = ladder.changes()
        if seq == 1:
            book.reset(BookSnapshot(bids=bids, asks=asks, seq=1, ts_event=NOON, ts_recv=NOON))
        else:
            change = BookDelta(bids=bids, asks=asks, seq=seq, ts_event=NOON, ts_recv=NOON)
            assert book.apply(change) == "applied"
        assert book.bids(1) == [(f"{bid:f}", f"{bid_size:f}")]
        assert book.asks(1) == [(f"{ask:f}", f"{ask_size:f}")]
    assert [(Decimal(price), Decimal(size)) for price, size in book.bids()] == ladder.levels(True)
    assert [(Decimal(price), Decimal(size)) for price, size in book.asks()] == ladder.levels(False)


def order(name: str, side: Side, quantity: int, price: str) -> Order:
    return Order(
        id=name,
        cl_ord_id=name,
        instrument="ES",
        side=side,
        order_qty=Decimal(quantity),
        price=Decimal(price),
        multiplier=Decimal(50),
    )


def printed(price: str, quantity: int) -> Trade:
    return Trade(
        instrument="ES",
        price=Decimal(price),
        quantity=Decimal(quantity),
        ts_event=NOON,
        ts_recv=NOON,
        seq=1,
    )


def told(inbox: Inbox) -> list[Any]:
    """What a trader has been told: of reports type, status and quantity."""
    found: list[Any] = []
    while not inbox.empty():
        one = inbox.get_nowait()
        if isinstance(one, ExecutionReport):
            found.append((one.exec_type, one.ord_status, one.last_qty, one.leaves_qty))
        else:
            found.append(type(one))
    return found


@one_loop
async def test_a_trade_fills_what_its_price_reaches_the_oldest_first() -> None:
    venue = Venue(lambda: NOON)
    first, second, seller = Inbox(), Inbox(), Inbox()
    venue.submit(order("1", Side.BUY, 5, "10.00"), first)
    venue.submit(order("2", Side.BUY, 5, "10.25"), second)
    venue.submit(order("3", Side.SELL, 5, "10.25"), seller)
    venue.trade(printed("10.00", 7))
    new = (ExecType.NEW, OrdStatus.NEW, None, 5)
    assert told(first) == [new, (ExecType.TRADE, OrdStatus.FILLED, 5, 0)]
    assert told(second) == [new, (ExecType.TRADE, OrdStatus.PARTIALLY_FILLED, 2, 3)]
    assert told(seller) == [new]
    account = venue.accounts["ES"]
    assert account.volume == account.qty == 7
    assert (int(account.paid), int(account.got)) == (3500, 0)


@one_loop
async def test_requests_are_answered_and_refused_when_they_are_late() -> None:
    venue = Venue(lambda: NOON)
    inbox: Inbox = Inbox()
    one = order("1", Side.SELL, 5, "10.25")
    venue.submit(one, inbox)
    venue.replace(one, "1.1", Decimal("10.00"), inbox)
    venue.trade(printed("10.00", 2))
    venue.cancel(one, "1.2", inbox)
    venue.cancel(one, "1.3", inbox)
    venue.trade(printed("10.50", 2))
    assert told(inbox) == [
        (ExecType.NEW, OrdStatus.NEW, None, 5),
        (ExecType.PENDING_REPLACE, OrdStatus.PENDING_REPLACE, None, 5),
        (ExecType.REPLACED, OrdStatus.NEW, None, 5),
        (ExecType.TRADE, OrdStatus.PARTIALLY_FILLED, 2, 3),
        (ExecType.PENDING_CANCEL, OrdStatus.PENDING_CANCEL, None, 3),
        (ExecType.CANCELED, OrdStatus.CANCELED, None, 0),
        CancelReject,
    ]


@one_loop
async def test_traders_are_asked_about_what_rests_for_long_and_at_the_close() -> None:
    venue = Venue(lambda: NOON)
    inbox, late = Inbox(), Inbox()
    venue.submit(order("1", Side.BUY, 5, "9.00"), inbox)
    for _ in range(PATIENCE):
        venue.trade(printed("10.00", 1))
    assert told(inbox)[1:] == [Nudge]
    venue.close()
    venue.submit(order("2", Side.BUY, 5, "9.00"), late)
    assert told(inbox) == told(late)[1:] == [Nudge]


def test_what_is_known_of_executions_is_kept_by_short_days() -> None:
    venue = Venue(lambda: NOON)
    assert venue.trade_date == "20130902"
    venue.reports = EXECUTIONS_A_DAY
    assert venue.trade_date == "20130903"


# The day


@one_loop
async def test_a_day_balances_and_leaves_nothing(pool: RedisPool) -> None:
    await pool.client.set("somebody's", "own")
    day = day_of(pool, simulated(1), 800, tasks=20)
    await day.run()
    assert day.right, (day.errors, day.checks.examples)
    assert day.trades == 800
    assert day.fills > 20
    assert day.blotter.received == day.desk.told > 100
    assert {name for name in TRIPS if day.timings.kinds[name].snapshot().count} == set(TRIPS)
    lines = {line.name: (line.sent, line.stored) for line in day.statement}
    assert lines["tape, trades"] == (800, 800)
    assert lines["open orders"] == (0, 0)
    assert day.blotter.valuation is not None
    assert day.blotter.valuation.totals["USD"].fees == lines["fees"][1] > 0
    await day.clean()
    assert not day.errors
    assert await pool.client.keys("*") == [b"somebody's"]


@one_loop
async def test_a_day_balances_when_connections_die(
    clean_server: EmbeddedServer, proxy: FaultProxy
) -> None:
    def cut(trades: Iterator[Trade]) -> Iterator[Trade]:
        for number, trade in enumerate(trades):
            if number in (300, 600):
                proxy.reset()
            yield trade

    source = replace(simulated(1), trades=lambda: cut(simulated(1).trades()))
    password = clean_server.password
    async with create_redis_pool(host=proxy.host, port=proxy.port, password=password) as pool:
        day = day_of(pool, source, 900, tasks=10)
        await day.run()
        await day.clean()
        assert day.right, (day.errors, day.checks.examples)
        assert pool.metrics().errors["ConnectionLost"] > 0
        assert await pool.client.dbsize() == 0


@one_loop
async def test_nothing_of_a_run_that_is_killed_stays_for_ever(pool: RedisPool) -> None:
    day = day_of(pool, simulated(1), 600, tasks=5)
    await day.run()
    await day.keys.renew(pool.client)
    keys = await pool.client.keys("*")
    assert len(keys) > 20
    lasting = [key for key in keys if await pool.client.ttl(key) <= 0]
    assert lasting == []
    await day.clean()
    assert await pool.client.dbsize() == 0


@one_loop
async def test_an_intruder_is_noticed(pool: RedisPool) -> None:
    day = day_of(pool, simulated(1), 600, tasks=5)
    await day.run()
    assert day.right, (day.errors, day.checks.examples)
    base = f"{day.prefix}ord:{{demo}}:pos"
    await pool.client.srem(base, "ES")
    await pool.client.delete(f"{day.prefix}md:{{ZN}}:q")
    lines = await draw_up(day.desk, day.portfolio, day.ticks, day.blotter)
    assert {line.name for line in lines if not line.right} >= {"cash", "fees"}
    assert day.checks.wrong >= 4  # and the position, and the quote
    await day.clean()


@one_loop
async def test_a_failing_command_ends_its_trader_and_the_verdict(pool: RedisPool) -> None:
    day = day_of(pool, simulated(1), 100, tasks=3, run="t")
    await pool.client.set(f"{day.prefix}ord:{{demo}}:ev", "not a stream")
    await day.run()
    await day.clean()
    assert not day.right
    assert any(one.startswith("trading: ") and "WRONGTYPE" in one for one in day.errors)
    assert await pool.client.dbsize() == 0


@one_loop
async def test_a_tape_is_paced(pool: RedisPool, tmp_path: Path) -> None:
    body = "".join(f"2024-01-31 17:00:00.{tenth}00,2,1\n" for tenth in (0, 4, 8))
    day = day_of(pool, recorded(tape(tmp_path, body)), tasks=2, speed=4.0)
    await day.run()
    await day.clean()
    assert day.right, (day.errors, day.checks.examples)
    assert day.trades == 3
    assert day.seconds > 0.19  # 0.8 s at four times real time, but for the grain of two clocks


@one_loop
async def test_a_bad_line_in_mid_replay_spares_what_went_before(
    pool: RedisPool, tmp_path: Path
) -> None:
    path = tape(tmp_path, LINE * 50 + "nonsense\n" + LINE)
    day = day_of(pool, recorded(path), tasks=5)
    await day.run()
    await day.clean()
    assert [error for error in day.errors if f"{path}, line 52" in error]
    assert (day.trades, day.checks.wrong, day.lost) == (50, 0, 0)
    assert not day.right


# Figures


def test_history_is_bounded_and_loses_no_command() -> None:
    history = History(limit=8)
    for number in range(1, 101):
        history.add(Sample(number, 1.0, 10, 1, 1, 0.1, 0.2, number / 1000, 0.0))
        assert len(history.samples) < 8
    assert sum(sample.commands for sample in history.samples) == 10 * history.samples[-1].at
    assert history.samples[-1].p99 == pytest.approx(history.samples[-1].at / 1000)


def test_columns_that_can_be_spared_go_first() -> None:
    columns = (Column("a", 3, left=True), Column("b", 3, spare=1), Column("c", 3, spare=2))
    assert [fitting(columns, room) for room in (13, 12, 8, 7, 2)] == [
        [True, True, True],
        [True, True, False],
        [True, True, False],
        [True, False, False],
        [True, False, False],
    ]
    line = row(columns, fitting(columns, 13), [("x", ""), ("1234", ""), ("5", "")])
    assert line.plain == "x    12…    5"


def test_a_profit_is_told_by_its_sign_too() -> None:
    amounts = [Decimal(text) for text in ("1234.567", "-0.5", "0.001")]
    assert [signed(amount)[0] for amount in amounts] == ["+1,234.57", "-0.50", "0.00"]


# The command


def test_demo_verifies_and_ends_with_a_table(tmp_path: Path) -> None:
    done = finished("demo", "--seconds", "1.3", "--tasks", "5")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("redisutils demo: simulated tape, seed 1, 5 traders, embedded")
    assert "commands/s" in lines[1]
    assert "✓ the ledger balances, every value was right, no event was lost" in done.stdout
    for figure in ("cash + cost", "= realised", "fills", "mismatches", "memory", "p99"):
        assert figure in done.stdout


def test_demo_replays_a_tape_and_draws_it(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tape(tmp_path, LINE * 300)
    done = finished("demo", "--tape", str(path), "--plot", str(tmp_path / "a.png"))
    assert done.returncode == 0, done.stderr
    assert "tape, trades 300 300 ✓" in " ".join(done.stdout.split())
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


def test_demo_live_view() -> None:
    rich_console = pytest.importorskip("rich.console")
    out = io.StringIO()
    console = rich_console.Console(file=out, force_terminal=True, width=80, height=40)
    assert run(Options(simulated(1), tasks=3, seconds=0.6), console) == 0
    text = out.getvalue()
    for part in (
        "commands/s",
        "report applied",
        "P&L",
        "book ES",
        "waiting",
        "0 wrong",
        "Ctrl-C",
        "✓",
    ):
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
    assert "✓ ended early; the ledger balances" in out
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
    assert run(Options(simulated(1), tasks=2, trades=20, dashboard=0), console) == 0
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
        (["--tape", "absent.csv"], "absent.csv: cannot be read"),
        (["--plot", "a.jpeg"], "must end in .png or .svg"),
        (["--plot", "absent/a.png"], "there is no folder absent"),
        (["--tasks", "0"], "--tasks"),
    ],
)
def test_wrong_options(arguments: list[str], told: str) -> None:
    done = asked(*arguments)
    assert done.exit_code == 2
    assert told in done.stderr


def test_the_tape_that_the_environment_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDISUTILS_TAPE", str(tape(tmp_path, LINE * 20)))
    done = asked("--plain")
    assert done.exit_code == 0
    assert "tape es-trades.csv" in done.stdout
    monkeypatch.setenv("REDISUTILS_TAPE", "absent.csv")
    done = asked()
    assert done.exit_code == 2
    assert "REDISUTILS_TAPE=absent.csv must be a file" in done.stderr


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
    for module in ("matplotlib", "uvicorn", "msgspec"):
        monkeypatch.setitem(sys.modules, module, None)
    for option, extra in (
        (["--plot", "a.png"], "plot"),
        (["--dashboard"], "monitor"),
        ([], "trading"),
    ):
        told = asked(*option)
        assert told.exit_code == 2
        assert f"pip install 'redisutils[{extra}]'" in told.stderr


def test_redis_log(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_LOG", "loud")
    done = asked("--seconds", "1")
    assert done.exit_code == 2
    assert "REDIS_LOG='loud': must be one of debug, info, warning, error" in done.stderr
    assert configure_logging("") is False
