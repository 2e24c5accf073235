"""All that was found, and what the command ends with."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from redisutils.cli.check.finding import Finding, Severity

__all__ = ["Report"]

INTERRUPTED: Final = 130
"""As shells say of what SIGINT has ended."""


@dataclass
class Report:
    """All that was found."""

    endpoint: str | None = None
    findings: list[Finding] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)
    """Steps that could not be taken, and why."""
    seconds: float = 0.0
    interrupted: bool = False

    def counts(self) -> Counter[Severity]:
        """How many there are of each severity."""
        return Counter(finding.severity for finding in self.findings)

    @property
    def status(self) -> str:
        """``ok``, ``warning``, ``error``: the worst of them; notes are ok. ``interrupted``."""
        if self.interrupted:
            return "interrupted"
        counts = self.counts()
        return "error" if counts["error"] else "warning" if counts["warning"] else "ok"

    def exit_code(self, *, strict: bool) -> int:
        """What the command ends with."""
        if self.interrupted:
            return INTERRUPTED
        bad = ("error", "warning") if strict else ("error",)
        return int(self.status in bad)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "status": self.status,
            "endpoint": self.endpoint,
            "findings": [asdict(finding) for finding in self.findings],
            "skipped": self.skipped,
            "seconds": round(self.seconds, 3),
        }
