"""The table on a terminal."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.faults.catalogue import SCENARIOS
from benchmarks.faults.measure import Verdict
from benchmarks.faults.results import BAD, Results

_STYLES = {Verdict.GOOD: "green", Verdict.BAD: "bold red", Verdict.PLAIN: ""}


def table(results: Results) -> Table:
    """A section for each scenario, a line for each measure, a column for each client."""
    drawn = Table(
        title="The same faults, side by side",
        caption=f"{BAD} is not what a perfect client would show",
        box=box.SIMPLE_HEAD,
        header_style="bold",
        pad_edge=False,
        show_edge=False,
        collapse_padding=True,
        title_style="bold",
    )
    drawn.add_column("", no_wrap=True)
    for name, version in results.clients.items():
        header = Text.assemble(name, "\n", (version, "not bold dim"))
        drawn.add_column(header, justify="right", no_wrap=True)
    for key in results.scenarios:
        scenario = SCENARIOS[key]
        if drawn.row_count:
            drawn.add_row()
        drawn.add_row(Text(scenario.title, style="bold"))
        for measure in scenario.measures:
            cells = [results.cell(key, measure, client) for client in results.clients]
            drawn.add_row(
                f"  {measure.title}",
                *(Text(cell.marked, style=_STYLES[cell.verdict]) for cell in cells),
            )
    return drawn


def show(results: Results, console: Console | None = None) -> None:
    """Print the table, what failed and what was left out."""
    console = console or Console()
    console.print(table(results))
    for (key, client), reason in results.failures.items():
        console.print(f"{SCENARIOS[key].title}, {client}: {reason}", markup=False)
    for note in results.notes:
        console.print(note, markup=False)
