"""Every program in examples/ runs as it stands, and says what its reader is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from redisutils.testing import EmbeddedServer

EXAMPLES = Path(__file__).resolve().parent.parent / "examples"

SAYS = {
    "dashboard": [
        "dashboard: http://127.0.0.1:",
        "price: b'50000.0'",
        "ready: True",
        "health: healthy",
    ],
    "deadlines": ["in time: b'50000.0'", "gave up: CommandTimeout after", "afterwards: b'50000.0'"],
    "honest_errors": [
        "DataError: Outcome.NOT_SENT",
        "ResponseError: Outcome.REJECTED",
        "CommandTimeout: Outcome.UNKNOWN",
        "position in the end: b'4'",
    ],
    "lanes": ["orders on their own lane:", "orders written: 200"],
    "many_servers": [
        "one server:\n  {acct:1}:* is at port ",
        "orders written: 60, found: 60\n",
        "sentinels:\n  {acct:1}:* is at port ",
        "the primary was killed\n  {acct:1}:* is at port ",
        "orders written: 60, found: 60\n",
        "cluster:\n  {acct:1}:* is at port ",
        "the primary of {acct:1}:* was killed\n  {acct:1}:* is at port ",
        "orders written: 60, found: 60\n",
    ],
    "market_data": [
        "newer than what was there: [True, False]",
        "read: fresh 50000.10 / 50000.30",
        "nobody quotes this: absent",
        "put: 10000, overtaken before they were sent: True",
        "live: 59999 / 60000 after 0 gaps",
        "after a gap: stale gap ()",
        "once more: 4 duplicates",
        "bar: 50000.10 50000.30 50000.10 50000.30, 0.2 for 10000.040",
        "price by trade: 50000.30",
        "price by mid: 59999.5",
    ],
    "metrics": [
        "1000 commands, p99",
        "wire ",
        "slowest: INCRBY #",
        "scraped: redisutils_commands_total{",
    ],
    "order_lifecycle": [
        "acknowledged       NEW               executed   0, left 100, average 0",
        "the same report again: duplicate = True",
        "executed meanwhile PENDING_REPLACE   executed 100, left   0, average 185.44",
        "replaced           PARTIALLY_FILLED  executed 100, left  50, average 185.44",
        "busted             PARTIALLY_FILLED  executed  90, left  60, average 185.47",
        "refused: order 'A-1' cannot go from CANCELED to DONE_FOR_DAY:",
        "10 events; the last has seq 10 and is 'executed'",
    ],
    "own_connection": ["first try: None", "balance: 470"],
    "pipeline": [
        "plain: [True, b'50000.0', True, b'2500.00', True, b'2350.10']",
        "transaction: {b'position:BTCUSD': b'2', b'cash': b'-100000.0'}",
    ],
    "portfolio": [
        "AAPL: 12 at 92.75, earned 19.00 USD",
        "SAP: -5 at 140.10, earned 0 EUR",
        "the broker differs: SAP qty: -5 here, nothing there",
        "worth 1140.00 USD, profit 45.30, fees 0.70",
        "no price: (); too old: ('AAPL',)",
        "SAP: 139.925 by mid",
        "plain: {b'BTCUSD': b'10.5'}",
    ],
    "pubsub": [f"received: fill {number}" for number in range(5)],
    "quickstart": ["price: b'50000.0'", "counted to: 100", "commands, p99", "PoolStatus("],
    "tracing": [
        "CLIENT HSET (within a request)",
        "CLIENT MULTI INCRBY (within a request)",
        "INTERNAL place order",
        "CLIENT LPUSH failed: WRONGTYPE",
    ],
}


def test_no_example_is_left_out() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(SAYS)


@pytest.mark.parametrize("name", SAYS)
def test_example(name: str, tmp_path: Path) -> None:
    said = run(name, tmp_path)
    at = 0
    for line in SAYS[name]:
        found = said.find(line, at)
        assert found >= 0, f"no {line!r} from character {at} on:\n{said}"
        at = found + len(line)


def test_the_program_for_many_servers_takes_what_is_named(tmp_path: Path) -> None:
    with EmbeddedServer() as server:
        said = run("many_servers", tmp_path, REDIS_URL=server.url)
    assert said.startswith("what the environment names:\n")
    assert said.count(f"{{acct:1}}:* is at port {server.port}") == 2
    assert said.count("orders written: 60, found: 60") == 1


def run(name: str, folder: Path, **variables: str) -> str:
    """What the program says."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("REDIS_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        cwd=folder,
        env=env | variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout
