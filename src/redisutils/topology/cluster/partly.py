"""The error of a command that several nodes, or several slots, were to execute: who did it, and who
did not. "Nothing happened" must not be read in it where something did."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any, Final

from redisutils.errors import Outcome, outcome_of, with_outcome

__all__ = ["failure"]

_NAMED: Final = 8
"""How many of those who did it, or did not, a message names."""


def failure(what: str, answers: Sequence[tuple[str, Any]], writes: bool = True) -> Exception:
    """The error to raise where some of these answers are exceptions.

    It is of the first one's class and has its code. Of what may write, its text says who has
    executed it and who has not, and its outcome is UNKNOWN if some have, or may have; NOT_SENT if
    nobody was sent it, EXECUTED if all have executed it, REJECTED otherwise.

    Args:
        what: What was to be done, such as ``"FLUSHALL"``.
        answers: Who was to do it, and their replies or what went wrong; one of these at least.
        writes: Whether it may have an effect at all. If not, it is the first error as it is.
    """
    error: Exception = next(value for _, value in answers if isinstance(value, Exception))
    if len(answers) == 1 or not writes:
        return error
    done, undone, unknown = [], [], []
    outcomes = set()
    for name, value in answers:
        outcome = _outcome(value)
        outcomes.add(outcome)
        if outcome is Outcome.EXECUTED:
            done.append(name)
        elif outcome is Outcome.UNKNOWN:
            unknown.append(name)
        else:
            undone.append(name)
    if len(outcomes) == 1:
        (joint,) = outcomes
    elif outcomes == {Outcome.NOT_SENT, Outcome.REJECTED}:
        joint = Outcome.REJECTED
    else:
        joint = Outcome.UNKNOWN
    told = (("executed by", done), ("not by", undone), ("unknown of", unknown))
    text = "; ".join(f"{how} {_listed(names)}" for how, names in told if names)
    return with_outcome(_with_text(error, f"{what} of {len(answers)}: {text}"), joint)


def _outcome(value: object) -> Outcome:
    if not isinstance(value, Exception):
        return Outcome.EXECUTED
    return outcome_of(value) or Outcome.UNKNOWN


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _with_text(error: Exception, text: str) -> Exception:
    """A copy, since the first may be somebody else's too (one lost connection's, in all that were
    in flight on it)."""
    try:
        new = copy(error)
    except TypeError:  # a class that is not made of its arguments alone
        error.add_note(text)
        return error
    whole = f"{getattr(error, 'message', error)} ({text})"
    new.args = (whole,)
    if hasattr(new, "message"):
        new.message = whole
    if whole not in str(new):  # UnicodeDecodeError and its like
        new.args = error.args
        new.add_note(text)
    new.__cause__ = error
    return new
