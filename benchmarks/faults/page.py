"""The page for the documentation: the table, how each line was measured, and how to repeat it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.faults.catalogue import SCENARIOS
from benchmarks.faults.results import Results
from benchmarks.faults.settings import SETUPS

_INTRODUCTION = """\
Each line of the table is a figure that was counted while the network or the server failed in
the same way for each client. ✗ marks what a perfect client would not show. Every pair of
fault and client ran in a process of its own, on uvloop, against a server of its own. Durations
are rounded; counts differ a little from run to run, since they depend on who is on the wire when
the fault strikes.

This page is written by `make faults`. What redisutils promises, and the tests that hold it to
that, is another matter: this is one run."""


def write(results: Results, page: Path, raw: Path) -> list[Path]:
    """Write the page and the raw figures; what was written."""
    for path in (page, raw):
        path.parent.mkdir(parents=True, exist_ok=True)
    page.write_text(markdown(results), encoding="utf-8")
    text = json.dumps(results.as_dict(), indent=1, ensure_ascii=False)
    raw.write_text(text + "\n", encoding="utf-8")
    return [page, raw]


def markdown(results: Results) -> str:
    """The whole page."""
    parts = [
        "# The same faults, side by side",
        _INTRODUCTION,
        _table(["", *results.clients], list(_lines(results)), numeric=True),
    ]
    failures = [
        f"- {SCENARIOS[key].title}, {client}: {reason}"
        for (key, client), reason in results.failures.items()
    ]
    if failures:
        parts += ["Without a result:", "\n".join(failures)]
    parts.append("## How each was measured")
    parts += [_told(key) for key in results.scenarios]
    parts += ["## How each client was set up", _setups(results)]
    facts = {
        **results.clients,
        **results.facts,
        "seed": str(results.seed),
    }
    if results.scale != 1:
        facts["size"] = f"{results.scale:.0%} of a whole run"
    parts += ["## What it was measured with", "\n".join(f"- {k} {v}" for k, v in facts.items())]
    if results.notes:
        parts.append("\n".join(f"- {note}" for note in results.notes))
    return "\n\n".join(parts) + "\n"


def _lines(results: Results) -> Iterator[list[str]]:
    for key in results.scenarios:
        scenario = SCENARIOS[key]
        yield [f"**{scenario.title}**", *("" for _ in results.clients)]
        for measure in scenario.measures:
            cells = [results.cell(key, measure, client) for client in results.clients]
            yield [
                measure.title,
                *(cell.marked.rstrip() for cell in cells),
            ]


def _told(key: str) -> str:
    scenario = SCENARIOS[key]
    return (
        f"**{scenario.title}.** {scenario.done} *Counted:* {_lower(scenario.counted)} "
        f"*A perfect client:* {_lower(scenario.perfect)}"
    )


def _lower(text: str) -> str:
    """A sentence as it goes on after a colon."""
    return text if text[:2].isupper() else text[0].lower() + text[1:]


def _setups(results: Results) -> str:
    rows = [[name, SETUPS[name].shared, SETUPS[name].pooled] for name in results.clients]
    header = ["", "with the budget B", "where a connection is taken for oneself"]
    better = [f"- {name}: {line}" for name in results.clients for line in SETUPS[name].better]
    parts = [_table(header, rows, numeric=False)]
    if better:
        parts += ["What would help, and what it costs:", "\n".join(better)]
    return "\n\n".join(parts)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, numeric: bool) -> str:
    rule = ["---", *("---:" if numeric else "---" for _ in header[1:])]
    return "\n".join(f"| {' | '.join(row)} |" for row in [header, rule, *rows])
