"""Values compared, and what was wrong with them."""

from __future__ import annotations

__all__ = ["Checks"]


class Checks:
    """Shared by all who compare."""

    def __init__(self) -> None:
        self.compared = 0
        self.wrong = 0
        self.examples: list[str] = []
        """The first few mismatches, in words."""

    def equal(self, what: str, expected: object, found: object) -> None:
        """Count one comparison, and a mismatch if there is one."""
        self.compared += 1
        if expected != found:
            self.mismatch(f"{what}: expected {expected!r}, found {found!r}")

    def mismatch(self, words: str) -> None:
        """Count a mismatch that was found in another way."""
        self.wrong += 1
        if len(self.examples) < 5:
            self.examples.append(words)
