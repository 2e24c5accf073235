"""What a run prints: a table and, below it, everything that deserves a look."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

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
    """Return the regressions and whatever else was unexpected: a line for each test."""
    lines = [
        f"BROKEN [{one.server}, protocol {one.protocol}] {text}"
        for one in verdicts
        for text in one.outcome.broken
    ]
    lines += _by_test("REGRESSION", verdicts, lambda one: one.regressions, traces=traces)
    lines += _by_test("unsteady", verdicts, lambda one: one.unsteady, traces=traces)
    lines += _by_test("fails with redis-py too", verdicts, lambda one: one.also_redis_py)
    lines += [f"SELECTION {text}" for text in gaps]
    return "\n".join(lines)


def _by_test(
    word: str,
    verdicts: Sequence[Verdict],
    pick: Callable[[Verdict], Mapping[str, str]],
    *,
    traces: bool = False,
) -> list[str]:
    """Return a line for each test, with where it happened and the reason given there first."""
    lines = []
    for name in sorted({name for one in verdicts for name in pick(one)}):
        there = [one for one in verdicts if name in pick(one)]
        where = ", ".join(f"{one.server}/{one.protocol}" for one in there)
        why = " ".join(pick(there[0])[name].split())[:300]
        lines.append(f"{word} {name} [{where}]: {why}")
        if traces:
            lines.append(there[0].outcome.traces.get(name, ""))
    return lines
