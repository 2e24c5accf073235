"""Trades and bars (and any other records) as tables of pandas, polars or pyarrow, whichever is
installed; none of them comes with us.

Numbers stay what they are:

============ ======================= ======================= ==================================
a record's   pyarrow                 polars                  pandas
============ ======================= ======================= ==================================
``Decimal``  ``decimal128``, and     ``Decimal(38, scale)``  dtype ``object``: the ``Decimal``
             ``decimal256`` above                            themselves, exact and slow; convert
             38 digits                                       with ``astype(float)``, knowingly
moments      ``timestamp[ns, UTC]``  ``Datetime(ns, UTC)``   ``datetime64[ns, UTC]``
other int    ``int64``               ``Int64``               ``int64``
============ ======================= ======================= ==================================

The scale of a column is that of its longest fraction. ``first`` and ``last`` of bars become
``first_ts`` and ``first_seq``, ``last_ts`` and ``last_seq``; the bars between, which a read has
filled in, have none. The libraries' own types are not known here, so results are ``Any``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from importlib import import_module
from typing import Any, Literal

from msgspec.structs import fields

from redisutils.trading.codec import Record
from redisutils.trading.errors import InvalidValue, MissingLibrary

__all__ = ["to_arrow", "to_pandas", "to_polars"]

Kind = Literal["decimal", "moment", "int", "bool", "text"]

_LONGEST = 76
"""Digits of the longest decimals that there are, pyarrow's ``decimal256``."""


@dataclass(frozen=True, slots=True)
class Column:
    """Of a table, not yet of a library."""

    name: str
    kind: Kind
    values: list[Any]

    def digits(self) -> tuple[int, int]:
        """How many a decimal needs in all, and behind the point.

        :raises InvalidValue: they are more than any of the libraries has.
        """
        whole = scale = 0
        for value in self.values:
            if value is not None:
                exponent = value.as_tuple().exponent
                scale = max(scale, -exponent)
                whole = max(whole, value.adjusted() + 1)
        if whole + scale > _LONGEST:
            raise InvalidValue(
                f"{self.name}={whole} digits before the point and {scale} behind it are more than "
                f"the {_LONGEST} that a column of decimals can have: to_pandas() takes any"
            )
        return max(1, whole + scale), scale


def to_arrow(records: Iterable[Record], kind: type[Record] | None = None) -> Any:
    """A ``pyarrow.Table``.

    :param records: all of one class.
    :param kind: their class; needed where there may be none of them.
    :raises MissingLibrary: pyarrow is not installed.
    :raises InvalidValue: the records are of several classes, or there are none and ``kind`` is not
        given; a number is too long for a column.
    """
    pyarrow = _library(lambda: import_module("pyarrow"), "pyarrow")
    plain = {"int": pyarrow.int64(), "bool": pyarrow.bool_(), "text": pyarrow.string()}
    plain["moment"] = pyarrow.timestamp("ns", tz="UTC")
    arrays = {}
    for column in _columns(records, kind):
        if column.kind == "decimal":
            precision, scale = column.digits()
            make = pyarrow.decimal128 if precision <= 38 else pyarrow.decimal256
            dtype = make(38 if precision <= 38 else _LONGEST, scale)
        else:
            dtype = plain[column.kind]
        arrays[column.name] = pyarrow.array(column.values, dtype)
    return pyarrow.table(arrays)


def to_polars(records: Iterable[Record], kind: type[Record] | None = None) -> Any:
    """A ``polars.DataFrame``.

    :param records: all of one class.
    :param kind: their class; needed where there may be none of them.
    :raises MissingLibrary: polars is not installed.
    :raises InvalidValue: as :func:`to_arrow`; also for numbers of more than 38 digits, which polars
        has no columns for.
    """
    polars = _library(lambda: import_module("polars"), "polars")
    plain = {"int": polars.Int64, "bool": polars.Boolean, "text": polars.String}
    series = []
    for column in _columns(records, kind):
        if column.kind == "decimal":
            precision, scale = column.digits()
            if precision > 38:
                raise InvalidValue(
                    f"{column.name}={precision} digits are more than the 38 that polars has: "
                    "to_arrow() and to_pandas() take more"
                )
            dtype = polars.Decimal(38, scale)
            series.append(polars.Series(column.name, column.values, dtype=dtype))
        elif column.kind == "moment":
            moments = polars.Series(column.name, column.values, dtype=polars.Int64)
            series.append(moments.cast(polars.Datetime("ns", "UTC")))
        else:
            series.append(polars.Series(column.name, column.values, dtype=plain[column.kind]))
    return polars.DataFrame(series)


def to_pandas(records: Iterable[Record], kind: type[Record] | None = None) -> Any:
    """A ``pandas.DataFrame``.

    :param records: all of one class.
    :param kind: their class; needed where there may be none of them.
    :raises MissingLibrary: pandas is not installed.
    :raises InvalidValue: the records are of several classes, or there are none and ``kind`` is not
        given.
    """
    pandas = _library(lambda: import_module("pandas"), "pandas")
    numpy = _library(lambda: import_module("numpy"), "pandas")
    series = {}
    for column in _columns(records, kind):
        values = column.values
        if column.kind == "moment":
            # By way of integers, of which the least is how numpy writes "none".
            whole = numpy.array([-(2**63) if each is None else each for each in values], "int64")
            series[column.name] = pandas.Series(whole.view("datetime64[ns]")).dt.tz_localize("UTC")
        elif column.kind == "int":
            dtype = "Int64" if None in values else "int64"
            series[column.name] = pandas.Series(values, dtype=dtype)
        elif column.kind == "bool":
            series[column.name] = pandas.Series(values, dtype="bool")
        elif column.kind == "text":
            series[column.name] = pandas.Series(values, dtype="str")
        else:
            series[column.name] = pandas.Series(values, dtype="object")
    return pandas.DataFrame(series)


def _library(load: Callable[[], Any], name: str) -> Any:
    try:
        return load()
    except ImportError as error:
        raise MissingLibrary(
            f"a table of {name} needs {name}, which is not installed: pip install {name}"
        ) from error


def _columns(records: Iterable[Record], kind: type[Record] | None) -> list[Column]:
    """By the annotations of the records' class."""
    rows = list(records)
    classes = {type(row) for row in rows} | ({kind} if kind else set())
    if len(classes) != 1:
        found = ", ".join(sorted(each.__name__ for each in classes)) or "none, and kind=None"
        raise InvalidValue(f"records={found} must be of one class, which kind= names for none")
    columns: list[Column] = []
    for field in fields(classes.pop()):
        name = field.name
        if name in ("v", "extra"):
            continue
        values = [getattr(row, name) for row in rows]
        text = str(field.type)
        if text == "tuple[int, int]":
            known = [value if any(value) else (None, None) for value in values]
            columns.append(Column(f"{name}_ts", "moment", [value[0] for value in known]))
            columns.append(Column(f"{name}_seq", "int", [value[1] for value in known]))
        elif text == "tuple[str, ...]":
            columns.append(Column(name, "text", [",".join(value) for value in values]))
        else:
            columns.append(Column(name, _kind(name, field.type), values))
    return columns


def _kind(name: str, annotation: Any) -> Kind:
    options = getattr(annotation, "__args__", (annotation,))  # of "Decimal | None"
    if Decimal in options:
        return "decimal"
    if bool in options:
        return "bool"
    if int in options:
        return (
            "moment" if name.endswith("_ts") or name.startswith("ts_") or name == "start" else "int"
        )
    return "text"
