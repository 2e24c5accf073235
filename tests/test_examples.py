"""Every program in examples/ runs as it stands, and says what its reader is told."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    "market_data": [
        "newer than what was there: [True, False]",
        "read: fresh 50000.10 / 50000.30",
        "nobody quotes this: absent",
        "put: 10000, overtaken before they were sent: True",
        "live: 59999 / 60000 after 0 gaps",
        "after a gap: stale gap ()",
    ],
    "metrics": [
        "1000 commands, p99",
        "wire ",
        "slowest: INCRBY #",
        "scraped: redisutils_commands_total{",
    ],
    "own_connection": ["first try: None", "balance: 470"],
    "pipeline": [
        "plain: [True, b'50000.0', True, b'2500.00', True, b'2350.10']",
        "transaction: {b'position:BTCUSD': b'2', b'cash': b'-100000.0'}",
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
    env = {key: value for key, value in os.environ.items() if not key.startswith("REDIS_")}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    found = [done.stdout.find(line) for line in SAYS[name]]
    assert -1 not in found, done.stdout
    assert found == sorted(found), done.stdout
