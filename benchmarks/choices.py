"""Arguments of the command lines that choose among names."""

from __future__ import annotations

import argparse


def chosen(text: str, known: list[str]) -> list[str]:
    """The comma-separated names of ``text``, in the order of ``known``."""
    names = [name.strip() for name in text.split(",")]
    for name in names:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is not one of {', '.join(known)}")
    return [name for name in known if name in names]
