"""What a run prints: a table and, below it, everything that deserves a look."""

from __future__ import annotations

from collections.abc import Sequence

from .verdict import Verdict

_COLUMNS = (
    *("server", "protocol", "collected", "passed", "failed", "skipped"),
    *("expected", "unsteady", "regressions"),
)


def table(verdicts: Sequence[Verdict]) -> str:
    """Return one line for each server and protocol."""
    rows: list[tuple[str, ...]] = [_COLUMNS]
    for one in verdicts:
        numbers = (
            *(len(one.outcome.collected), len(one.outcome.passed), len(one.outcome.failed)),
            len(one.outcome.skipped),
            "asked" if one.expected is None else one.expected,
            *(len(one.unsteady), len(one.regressions)),
        )
        rows.append((one.server, one.protocol, *map(str, numbers)))
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    return "\n".join(_line(row, widths) for row in rows)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    words = (
        f"{word:<{w}}" if at < 2 else f"{word:>{w}}"
        for at, (word, w) in enumerate(zip(row, widths, strict=True))
    )
    return "  ".join(words).rstrip()


def findings(verdicts: Sequence[Verdict], gaps: Sequence[str], *, traces: bool = False) -> str:
    """Return the regressions and whatever else was unexpected, one a line."""
    lines = []
    for one in verdicts:
        where = f"[{one.server}, protocol {one.protocol}]"
        lines += [f"BROKEN {where} {text}" for text in one.outcome.broken]
        for name, why in one.regressions.items():
            lines.append(f"REGRESSION {where} {name}: {_short(why)}")
            if traces:
                lines.append(one.outcome.traces.get(name, ""))
        lines += [f"unsteady {where} {name}" for name in one.unsteady]
        lines += [f"fails with redis-py too {where} {name}" for name in one.also_redis_py]
    lines += [f"SELECTION {text}" for text in gaps]
    return "\n".join(lines)


def _short(text: str) -> str:
    return " ".join(text.split())[:300]
