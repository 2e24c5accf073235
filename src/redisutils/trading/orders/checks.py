"""What is let in: each field of an order or a report, before anything is decided or sent."""

from __future__ import annotations

import re
from datetime import date
from decimal import Decimal
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from typing import Any, TypeVar, cast

from msgspec.structs import replace

from redisutils.trading.errors import InvalidValue
from redisutils.trading.money import number, positive_number, size_number
from redisutils.trading.names import checked_name
from redisutils.trading.orders.records import CancelReject, ExecutionReport
from redisutils.trading.orders.terms import ORD_TYPES, TIMES_IN_FORCE, ExecType, OrdStatus, Side
from redisutils.trading.texts import checked_text, shown
from redisutils.trading.times import moment

__all__ = ["checked_order", "checked_reject", "checked_report"]

_DATE = re.compile(r"[0-9]{8}", re.ASCII)

E = TypeVar("E", bound=StrEnum)


def checked_report(report: ExecutionReport, now: int) -> ExecutionReport:
    """The report with exact numbers.

    :param now: the present, ns.
    :raises InvalidValue: one of its fields cannot be meant.
    """
    if not isinstance(cast(object, report), ExecutionReport):
        raise InvalidValue(f"report={shown(report)} must be an ExecutionReport")
    changes: dict[str, Any] = {}
    checked_name("exec_id", report.exec_id)
    checked_name("cl_ord_id", report.cl_ord_id)
    if type(report.exec_type) is not ExecType:
        changes["exec_type"] = _value_of("exec_type", report.exec_type, ExecType)
    _check_date("trade_date", report.trade_date)
    moment("ts_event", report.ts_event, now)
    moment("ts_recv", report.ts_recv, now)
    for name, value in zip(_NAMES, _names_of(report), strict=True):
        if value != "":
            checked_name(name, value)
    if (texts := _texts_of(report)) != _USUAL_TEXTS:
        for name, value in zip(_TEXTS, texts, strict=True):
            checked_text(name, value)
    if report.ref_trade_date != "":
        _check_date("ref_trade_date", report.ref_trade_date)
    if (exact := positive_number("multiplier", report.multiplier)) is not report.multiplier:
        changes["multiplier"] = exact
    for name, check in _NUMBERS:
        value = getattr(report, name)
        if value is not None and (exact := check(name, value)) is not value:
            changes[name] = exact
    if report.ord_status is not None and type(report.ord_status) is not OrdStatus:
        changes["ord_status"] = _value_of("ord_status", report.ord_status, OrdStatus)
    if report.side is not None and type(report.side) is not Side:
        changes["side"] = _value_of("side", report.side, Side)
    if changes.get("exec_type", report.exec_type) in _EXECUTIONS:
        _check_execution(report)
    return replace(report, **changes) if changes else report


_EXECUTIONS = (ExecType.TRADE, ExecType.TRADE_CORRECT, ExecType.TRADE_CANCEL)

_NAMES = (
    "venue",
    "orig_cl_ord_id",
    "exec_ref_id",
    "venue_order_id",
    "instrument",
    "currency",
    "fee_currency",
)

_TEXTS = ("ord_type", "time_in_force", "restatement_reason", "text")
_USUAL_TEXTS = ("", "0", "", "")

_names_of, _texts_of = attrgetter(*_NAMES), attrgetter(*_TEXTS)

_NUMBERS = (
    ("last_qty", positive_number),
    ("last_px", number),
    ("order_qty", size_number),
    ("cum_qty", size_number),
    ("leaves_qty", size_number),
    ("avg_px", number),
    ("price", number),
    ("fee", number),
)


def _check_execution(report: ExecutionReport) -> None:
    kind = report.exec_type
    if kind != ExecType.TRADE_CANCEL and (report.last_qty is None or report.last_px is None):
        raise InvalidValue(
            f"{ExecType(kind).name} {report.exec_id!r} must have last_qty and last_px"
        )
    if kind != ExecType.TRADE and not report.exec_ref_id:
        raise InvalidValue(
            f"{ExecType(kind).name} {report.exec_id!r} must have exec_ref_id: the execution that "
            "it is about"
        )


def checked_reject(reject: CancelReject, now: int) -> CancelReject:
    """As :func:`checked_report`, for a cancel reject."""
    if not isinstance(cast(object, reject), CancelReject):
        raise InvalidValue(f"reject={shown(reject)} must be a CancelReject")
    status = reject.ord_status
    checked_name("cl_ord_id", reject.cl_ord_id)
    _check_date("trade_date", reject.trade_date)
    moment("ts_event", reject.ts_event, now)
    moment("ts_recv", reject.ts_recv, now)
    for name in ("venue", "orig_cl_ord_id"):
        if (value := getattr(reject, name)) != "":
            checked_name(name, value)
    checked_text("reason", reject.reason)
    checked_text("text", reject.text)
    if status is None or type(status) is OrdStatus:
        return reject
    return replace(reject, ord_status=_value_of("ord_status", status, OrdStatus))


def checked_order(
    *,
    cl_ord_id: str,
    instrument: str,
    side: Side | str,
    order_qty: Decimal | int | str | None,
    cash_order_qty: Decimal | int | str | None,
    price: Decimal | int | str | None,
    multiplier: Decimal | int | str,
    now: int,
    ts_event: int,
    texts: dict[str, str],
) -> dict[str, Any]:
    """The fields of a new order.

    :raises InvalidValue: one of them cannot be meant.
    """
    checked_name("cl_ord_id", cl_ord_id)
    checked_name("instrument", instrument)
    if (order_qty is None) == (cash_order_qty is None):
        raise InvalidValue(
            f"order_qty={shown(order_qty)} and cash_order_qty={shown(cash_order_qty)}: give one of "
            "them"
        )
    for name in ("currency", "venue"):
        if texts[name] != "":
            checked_name(name, texts[name])
    for name, text in texts.items():
        checked_text(name, text)
    for name, codes in (("ord_type", ("", *ORD_TYPES)), ("time_in_force", TIMES_IN_FORCE)):
        if texts[name] not in codes:
            known = ", ".join(filter(None, codes))
            raise InvalidValue(f"{name}={shown(texts[name])} must be one of FIX's codes: {known}")
    return {
        "id": cl_ord_id,
        "cl_ord_id": cl_ord_id,
        "instrument": instrument,
        "side": _value_of("side", side, Side),
        "order_qty": Decimal(0) if order_qty is None else positive_number("order_qty", order_qty),
        "cash_order_qty": None
        if cash_order_qty is None
        else positive_number("cash_order_qty", cash_order_qty),
        "price": None if price is None else number("price", price),
        "multiplier": positive_number("multiplier", multiplier),
        "ts_placed": moment("ts_event", ts_event, now),
        **texts,
    }


def _check_date(name: str, value: object) -> None:
    if not (isinstance(value, str) and _DATE.fullmatch(value) and _is_date(value)):
        raise InvalidValue(f"{name}={shown(value)} must be a date like '20240131'")


@lru_cache(maxsize=64)
def _is_date(digits: str) -> bool:
    try:
        date.fromisoformat(digits)
    except ValueError:
        return False
    return True


def _value_of(name: str, value: object, kind: type[E]) -> E:
    try:
        return kind(str(value))
    except ValueError:
        values = ", ".join(f"{one.value} {one.name}" for one in kind)
        raise InvalidValue(f"{name}={shown(value)} must be one of {values}") from None
