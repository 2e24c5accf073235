"""A secret that is easy to find, and a search through all that people might get to see."""

from __future__ import annotations

import asyncio
import base64
import logging
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from redisutils.testing import _relay

NEEDLE = "c4n4ry"
"""What is searched for: whole secrets may be shown cut, escaped or percent-encoded."""

SECRET = f"{NEEDLE}-äß/@:%-{NEEDLE}"
WRONG = f"{NEEDLE}-is-wrong-{NEEDLE}"
ENCODED = quote(SECRET, safe="")

_NOT_OURS_TO_KEEP = (str(Path(__file__).parent), str(Path(_relay.__file__)))
"""Where secrets are planted, and the network that carries them."""


class Search:
    """Gathers text from logs, warnings, objects and errors, and tells where the needle is.

    Args:
        caplog: all loggers are set to DEBUG.
    """

    def __init__(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.DEBUG)
        self._caplog = caplog
        self.texts: list[tuple[str, str]] = []

    def look_at(self, where: str, *things: object) -> None:
        """Take in each thing as a console, an error tracker or a debugger would show it."""
        for thing in things:
            if isinstance(thing, BaseException):
                self.texts += ((f"{where}: {how}", text) for how, text in of_error(thing))
            else:
                name = f"{where}: {type(thing).__name__}"
                self.texts += [(name, repr(thing)), (name, str(thing)), (name, _inside(thing))]

    def look_at_tasks(self, where: str) -> None:
        """Take in every task and what it stands at."""
        for task in asyncio.all_tasks():
            if task is not asyncio.current_task():
                self.look_at(where, task, task.get_coro())
                stack = [frame for frame in task.get_stack() if not _is_test(frame.f_code)]
                self.texts += ((f"{where}: task", repr(frame.f_locals)) for frame in stack)

    def leaks(self) -> list[str]:
        """Where the needle was found."""
        for record in self._caplog.records:
            self.texts.append((f"log {record.name}", record.getMessage()))
            self.texts.append((f"log {record.name}", repr(record.args)))
            if record.exc_info and record.exc_info[1]:
                self.look_at(f"log {record.name}", record.exc_info[1])
        forms = (NEEDLE, NEEDLE.encode().hex(), base64.b64encode(NEEDLE.encode()).decode())
        return [
            f"{where}: {text[max(0, found.start() - 150) : found.end() + 50]}"
            for where, text in self.texts
            if (found := re.search("|".join(forms), text, re.IGNORECASE))
        ]


def of_error(error: BaseException) -> Iterator[tuple[str, str]]:
    """All that an error shows: itself, its attributes, what it came from (also what a
    ``raise … from None`` hides), and the locals of every frame but those of the tests."""
    seen: set[int] = set()
    todo: list[BaseException | None] = [error]
    while todo:
        one = todo.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        name = type(one).__name__
        yield name, str(one)
        yield name, repr(one)
        yield f"{name}.args", repr(one.args)
        yield f"attributes of {name}", _inside(one)
        yield f"traceback of {name}", "".join(_traceback(one))
        todo += [one.__cause__, one.__context__]
        if isinstance(one, BaseExceptionGroup):
            todo += one.exceptions


def _traceback(error: BaseException) -> Iterator[str]:
    frames = (
        (frame, line)
        for frame, line in traceback.walk_tb(error.__traceback__)
        if not _is_test(frame.f_code)
    )
    yield from traceback.StackSummary.extract(frames, capture_locals=True).format()
    yield from traceback.TracebackException.from_exception(error).format()


def _is_test(code: Any) -> bool:
    return str(code.co_filename).startswith(_NOT_OURS_TO_KEEP)


def _inside(thing: object) -> str:
    """Its attributes, by whatever name they are kept."""
    names = [name for kind in type(thing).__mro__ for name in getattr(kind, "__slots__", ())]
    # C's exceptions keep what they are about in attributes that are neither.
    names += ["object", "filename", "doc", "msg"] if isinstance(thing, BaseException) else []
    found = {name: getattr(thing, name, None) for name in names if not name.startswith("__")}
    return repr(found | getattr(thing, "__dict__", {}))
