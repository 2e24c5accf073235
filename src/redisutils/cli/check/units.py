"""Durations and sizes for reading."""

from __future__ import annotations

__all__ = ["count", "listed", "share", "size", "span"]


def span(seconds: float) -> str:
    """``85 µs``, ``0.41 ms``, ``4.1 ms``, ``41 ms``, ``1.2 s``, ``3 min``, ``5 h``, ``12 days``."""
    if seconds <= 0:
        return "0 s"
    if seconds < 100e-6:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1e-3:
        return f"{seconds * 1e3:.2f} ms"
    if seconds < 10e-3:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    for unit, length, most in (("min", 60, 7200), ("h", 3600, 172_800)):
        if seconds < most:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86_400:.0f} days"


def size(octets: float) -> str:
    """``512 B``, ``1.5 kB``, ``64 MB``: in powers of 1024, as Redis counts."""
    for unit in ("B", "kB", "MB"):
        if octets < 1024:
            return f"{octets:.3g} {unit}" if octets < 1000 else f"{octets:.0f} {unit}"
        octets /= 1024
    return f"{octets:,.3g} GB" if octets < 1000 else f"{octets:,.0f} GB"


def share(part: float, whole: float) -> str:
    """In per cent."""
    return f"{100 * part / whole:.0f} %" if whole else "–"


def count(number: int, what: str) -> str:
    """``1 error``, ``2 errors``."""
    return f"{number:,} {what}" if number == 1 else f"{number:,} {what}s"


def listed(words: list[str]) -> str:
    """``a, b and c``."""
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1]))) if words else "none"
