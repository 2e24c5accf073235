"""The check on a terminal, in a pipe, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final, Self

from rich.live import Live
from rich.text import Text

from redisutils.cli.check.finding import Finding, Severity
from redisutils.cli.check.units import count, listed, span

if TYPE_CHECKING:
    from rich.console import Console

    from redisutils.cli.check.report import Report

__all__ = ["JsonView", "LiveView", "PlainView", "View"]

LABEL: Final = 15
"""Columns of the steps' names: the longest, and a gap."""
INDENT: Final = 2
WIDEST: Final = 100
NARROW: Final = 40
"""Columns below which the text does not stand beside the steps' names."""

_SIGNS: Final[dict[Severity, tuple[str, str, str]]] = {
    "ok": ("✓", "+", "green"),
    "note": ("•", "-", "blue"),
    "warning": ("!", "!", "bold yellow"),
    "error": ("✗", "x", "bold red"),
}
"""Sign, sign without Unicode, style."""

_FRAMES: Final = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"


class View:
    """Shows a check while it runs. Entered around it. This one shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        pass

    def endpoint(self, endpoint: str | None) -> None:
        """What is looked at; None when the settings do not say."""

    def begin(self, step: str, number: int, of: int) -> None:
        """A step begins."""

    def tick(self, seconds: float) -> None:
        """It goes on, since ``seconds``."""

    def found(self, finding: Finding) -> None:
        """It found something."""

    def skipped(self, step: str, why: str) -> None:
        """It cannot be taken."""

    def end(self, report: Report) -> None:
        """That is all."""


class PlainView(View):
    """One line for each finding and one for its remedy, whole: for pipes and files.

    Args:
        console: where to.
        folded: whether lines are folded at the console's width.
    """

    def __init__(self, console: Console, *, folded: bool = False) -> None:
        self._console = console
        self._folded = folded
        self._unicode = not console.options.ascii_only
        self._step = ""
        self._unseen: list[str] = []
        self._why = ""

    def endpoint(self, endpoint: str | None) -> None:
        """The first line."""
        if endpoint is not None:
            self._console.print(Text(f"redisutils check   {endpoint}"), soft_wrap=True)

    def found(self, finding: Finding) -> None:
        """A line, and one for the remedy."""
        self._tell_unseen()
        sign, plain, style = _SIGNS[finding.severity]
        label = "" if finding.step == self._step else finding.step
        self._step = finding.step
        serious = finding.severity in {"warning", "error"}
        emphasis = {"warning": "yellow", "error": "bold red"}.get(finding.severity, "")
        self._row(sign if self._unicode else plain, style, label, Text(finding.found, emphasis))
        if finding.remedy and finding.severity != "ok":
            arrow = "→ " if self._unicode else "> "
            remedy = _with_commands(finding.remedy, "" if serious else "dim")
            self._row(" ", "", "", remedy, lead=arrow)

    def skipped(self, step: str, why: str) -> None:
        """One line for all that are skipped for the same reason."""
        if why != self._why:
            self._tell_unseen()
        self._unseen.append(step)
        self._why = why

    def end(self, report: Report) -> None:
        """The verdict."""
        self._tell_unseen()
        self._console.print()
        self._console.print(self._verdict(report), soft_wrap=not self._folded)

    def _tell_unseen(self) -> None:
        if self._unseen:
            text = Text(f"{', '.join(self._unseen)}: {self._why}", "dim")
            self._row("–" if self._unicode else " ", "dim", "not looked at", text)
            self._unseen = []

    def _row(self, sign: str, style: str, label: str, text: Text, *, lead: str = "") -> None:
        width = min(self._console.width, WIDEST) if self._folded else 0
        beside = not self._folded or width >= NARROW + LABEL
        head = Text.assemble(" " * INDENT, (sign, style), " ")
        if beside:
            head.append(label.ljust(LABEL))
        elif label:
            self._console.print(Text.assemble(head, (label, "bold")), soft_wrap=True)
            head = Text(" " * len(head))
        head.append(lead, "cyan")
        if not self._folded:
            self._console.print(Text.assemble(head, text), soft_wrap=True)
            return
        for line in text.wrap(self._console, max(20, width - len(head))):
            line.rstrip()
            self._console.print(Text.assemble(head, line), soft_wrap=True)
            head = Text(" " * len(head))

    def _verdict(self, report: Report) -> Text:
        counts = report.counts()
        told = [
            count(counts[severity], severity)
            for severity in ("error", "warning", "note")
            if counts[severity]
        ]
        text = Text(" " * INDENT)
        worst: Severity = "error"
        if report.status in ("ok", "warning"):
            worst = "ok" if report.status == "ok" else "warning"
        sign, plain, style = _SIGNS[worst]
        text.append(f"{sign if self._unicode else plain} ", style)
        head = {"interrupted": "interrupted", "ok": "nothing is wrong"}.get(report.status)
        if head:
            text.append(head, style)
            text.append(": " if told else "")
        text.append(listed(told) if told else "")
        text.append(f", in {span(report.seconds)}", "dim")
        return text


class LiveView(PlainView):
    """For a terminal: the findings as they come, and below them what is being looked at."""

    def __init__(self, console: Console, endpoint: str | None) -> None:
        super().__init__(console, folded=True)
        self._endpoint = endpoint
        self._live = Live(console=console, auto_refresh=False, transient=True)
        self._now = ("", 0, 0)
        self._frame = 0

    def __enter__(self) -> Self:
        self._console.print()
        head = Text.assemble(" " * INDENT, ("redisutils check", "bold"))
        if self._endpoint:
            head.append(f"   {self._endpoint}", "dim")
        self._console.print(head)
        self._console.print()
        self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()
        self._console.print()

    def endpoint(self, endpoint: str | None) -> None:
        """It stands in the head."""

    def begin(self, step: str, number: int, of: int) -> None:
        """Show which."""
        self._now = step, number, of
        self.tick(0.0)

    def tick(self, seconds: float) -> None:
        """Draw."""
        step, number, of = self._now
        self._frame += 1
        sign = _FRAMES[self._frame % len(_FRAMES)] if self._unicode else ">"
        line = Text.assemble(" " * INDENT, (sign, "cyan"), " ", step.ljust(LABEL))
        line.append(f"{number} of {of}", "dim")
        if seconds >= 1:
            line.append(f"   {seconds:.1f} s", "dim")
        self._live.update(line, refresh=True)

    def end(self, report: Report) -> None:
        """The verdict, in place of what was being looked at."""
        self._live.update(Text(), refresh=True)
        self._live.stop()
        super().end(report)


class JsonView(View):
    """Nothing while it runs, and one JSON object at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def end(self, report: Report) -> None:
        """All of it."""
        self._console.file.write(json.dumps(report.as_dict(), indent=2, default=str) + "\n")


def _with_commands(text: str, style: str) -> Text:
    """What stands in backquotes is to be typed."""
    parts: Iterator[str] = iter(text.split("`"))
    found = Text()
    for number, part in enumerate(parts):
        found.append(f"`{part}`" if number % 2 else part, "cyan" if number % 2 else style)
    return found
