"""As much of PromQL as words and brackets show: does an expression ask for what is exported?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

__all__ = ["SCRAPED", "Exported", "problems_of"]

Exported = Mapping[str, Mapping[str, set[str]]]
"""By the name of each sample, its labels, and the values of each."""

SCRAPED = {"job", "instance"}
"""Labels that Prometheus adds."""

FUNCTIONS = {
    *("rate", "increase", "histogram_quantile", "min_over_time"),
    *("sum", "max", "avg", "topk", "absent"),
}

_LEXICON = re.compile(
    r"""\s+
  | \[\d+[smhd]\]                     # a span of time
  | \d+(\.\d+)?
  | [a-zA-Z_][a-zA-Z0-9_]*
  | "([^"\\]|\\.)*"
  | =~ | !~ | != | == | >= | <= | =
  | [-+*/<>(){},]
    """,
    re.VERBOSE,
)
_GROUPED = re.compile(r"\b(?:by|without) ?\(([^)]*)\)")
_SELECTED = re.compile(r"\b([a-zA-Z_]\w*)\{([^}]*)\}")
_MATCHER = re.compile(r'([a-zA-Z_]\w*) ?(=~|!~|!=|=) ?"((?:[^"\\]|\\.)*)"')


def problems_of(expression: str, exported: Exported) -> Iterator[str]:
    """What is wrong with an expression."""
    at = 0
    while at < len(expression):
        word = _LEXICON.match(expression, at)
        if word is None:
            yield f"{expression[at:]!r} is not PromQL"
            return
        at = word.end()
    yield from _brackets(expression)
    known = set(SCRAPED)
    for metric, matchers in _SELECTED.findall(expression):
        yield from _matchers(metric, matchers, exported.get(metric, {}))
    # What is left are names and functions.
    left = re.sub(r'"([^"\\]|\\.)*"|\[[^\]]*\]|\{[^}]*\}', "", _GROUPED.sub("", expression))
    for name, called in re.findall(r"\b([a-zA-Z_]\w*)\b(\s*\()?", left):
        if called or name in FUNCTIONS:
            if name not in FUNCTIONS:
                yield f"{name} is no function"
        elif name not in exported:
            yield f"{name} is not exported"
        else:
            known |= exported[name].keys()
    for labels in _GROUPED.findall(expression):
        for label in re.findall(r"\w+", labels):
            if label not in known:
                yield f"nothing in it has the label {label}"


def _brackets(expression: str) -> Iterator[str]:
    closing = {")": "(", "}": "{"}
    opened: list[str] = []
    for each in re.sub(r'"([^"\\]|\\.)*"', "", expression):
        if each in closing.values():
            opened.append(each)
        elif each in closing and (not opened or opened.pop() != closing[each]):
            yield f"{each} closes nothing"
    if opened:
        yield f"{opened[-1]} is not closed"


def _matchers(metric: str, matchers: str, has: Mapping[str, set[str]]) -> Iterator[str]:
    if _MATCHER.sub("", matchers).strip(", "):
        yield f"{{{matchers}}} does not compare labels with strings"
    for label, how, value in _MATCHER.findall(matchers):
        if label in SCRAPED:
            continue
        if label not in has:
            yield f"{metric} has no label {label}"
        elif how in ("=", "!=") and value not in has[label]:
            yield f"{label} of {metric} is never {value!r}"
