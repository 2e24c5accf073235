"""A span for each command that a pool's callers issue, and its duration as a metric.

What stands in a span, and under which name, is OpenTelemetry's to say: see its conventions for
database clients and for Redis. Beyond them: ``redisutils.outcome`` of an error, and an event for
each time that a command is sent again.

A span begins when a command is issued and ends when its answer is there: waiting for a connection,
retries and pauses included. It is a child of whatever span is current where it was issued, and is
never itself current. What a span says of a failure names neither keys nor values: messages of the
server, which may quote them, are left out unless queries are told as well.
"""

from __future__ import annotations

from asyncio import CancelledError, Future
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any, Final, TypeAlias

from opentelemetry.metrics import Histogram
from opentelemetry.trace import Span, SpanKind, Status, StatusCode, Tracer, set_span_in_context

from redisutils.commands import keys_of, lookup
from redisutils.connection.naming import OTHER, command_name
from redisutils.connection.packing import unpack
from redisutils.errors import RedisUtilsError, code_of, outcome_of
from redisutils.metrics.measures import CODES
from redisutils.metrics.observer import Address, Submit, SubmitMany
from redisutils.monitor.samples import valid

__all__ = ["Attributes", "Tracing"]

Attributes: TypeAlias = dict[str, str | int | float | bool]

_LOOKED_AT: Final = 32
"""Commands in a pipeline up to which it is found out whether they are all the same."""

_UNKNOWN: Final = "_OTHER"
"""The conventions' own word for an ``error.type`` that is not told apart."""

_QUERY_SHOWN: Final = 1000
"""Characters of a query that are told."""


class Tracing:
    """Watches the commands of one pool: an ``Observer``.

    Args:
        tracer: makes the spans.
        durations: takes how long each operation took, in seconds.
        created, obtained, returned: take how long it took to make a connection, to be given one,
            and to give it back, in seconds.
        place: the attributes of all operations: which server it is.
        query_text: whether spans hold the commands, with their keys and without their values.
    """

    def __init__(
        self,
        tracer: Tracer,
        durations: Histogram,
        created: Callable[[float], None],
        obtained: Callable[[float], None],
        returned: Callable[[float], None],
        place: Attributes,
        *,
        query_text: bool,
    ) -> None:
        self._tracer = tracer
        self._durations = durations
        self.created = created
        self.obtained = obtained
        self.returned = returned
        self._place = place
        self._query_text = query_text
        self._recording: dict[Future[Any], Span] = {}
        self._codes: set[str] = set()

    def watch(
        self, submit: Submit, submit_many: SubmitMany, address: Address
    ) -> tuple[Submit, SubmitMany]:
        """Put a span round each command."""

        def traced(payload: bytes, decode: bool, timeout: float) -> Future[Any]:
            issue = partial(submit, payload, decode, timeout)
            name = command_name(payload)
            error_in = _first_error if name == "EXEC" else _nothing
            return self._trace(name, None, payload, issue, address, error_in)

        def traced_many(payload: bytes, size: int, decode: bool, timeout: float) -> Future[Any]:
            issue = partial(submit_many, payload, size, decode, timeout)
            return self._trace(*_batch(payload, size), payload, issue, address, _first_of_batch)

        return traced, traced_many

    def retried(self, future: Future[Any], reason: str, attempt: int, pause: float) -> None:
        """Tell it in the span of that command."""
        span = self._recording.get(future)
        if span is not None:
            span.add_event(
                "retry",
                {
                    "redisutils.retry.reason": reason,
                    "redisutils.retry.attempt": attempt,
                    "redisutils.retry.pause": pause,
                },
            )

    def _trace(
        self,
        name: str,
        size: int | None,
        payload: bytes,
        issue: Callable[[], Future[Any]],
        address: Address,
        error_in: Callable[[Any], BaseException | None],
    ) -> Future[Any]:
        """Issue an operation within a span.

        Args:
            size: how many commands are in it; None for one that is no batch.
            error_in: finds an error in the answer.
        """
        metered: Attributes = {**self._place, "db.operation.name": name}
        attributes = metered if size is None else {**metered, "db.operation.batch.size": size}
        span = self._tracer.start_span(name, kind=SpanKind.CLIENT, attributes=attributes)
        recording = span.is_recording()
        if recording and self._query_text:
            span.set_attribute("db.query.text", _query(payload))
        began = monotonic()
        try:
            future = issue()
        except BaseException as error:
            self._end(span, began, metered, error)
            raise
        if recording:
            self._recording[future] = span

        def answered(future: Future[Any]) -> None:
            if self._recording.pop(future, None) is not None:
                span.set_attributes(self._peer(address()))
            self._end(span, began, metered, _failure(future, error_in))

        future.add_done_callback(answered)
        return future

    def _end(
        self, span: Span, began: float, metered: Attributes, error: BaseException | None
    ) -> None:
        seconds = monotonic() - began
        failed: Attributes = {}
        if error is not None:
            failed = self._failed(error)
        recording = span.is_recording()
        # Of what is recorded, an exemplar shall name this span.
        context = set_span_in_context(span) if recording else None
        self._durations.record(seconds, {**metered, **failed}, context)
        if recording:
            if error is not None:
                span.set_attributes(failed)
                outcome = outcome_of(error)
                if outcome is not None:
                    span.set_attribute("redisutils.outcome", outcome.name)
                span.set_status(Status(StatusCode.ERROR, self._described(error)))
            span.end()

    def _failed(self, error: BaseException) -> Attributes:
        """What failed, in words of which there are not many: scripts can make up codes."""
        code = code_of(error)
        if not code:
            return {"error.type": type(error).__name__}
        if code not in self._codes:
            if len(self._codes) >= CODES or code == OTHER:
                return {"error.type": _UNKNOWN}
            self._codes.add(code)
        return {"error.type": code, "db.response.status_code": code}

    def _peer(self, address: object) -> Attributes:
        """Where the connection leads to. What a Unix socket's server calls it, may be a relative
        path: then it is what was asked for."""
        if isinstance(address, tuple):
            return {"network.peer.address": address[0], "network.peer.port": address[1]}
        if isinstance(address, str | bytes):
            return {"network.peer.address": self._place["server.address"]}
        return {}

    def _described(self, error: BaseException) -> str | None:
        """The message of ``error``, if it may be told."""
        if isinstance(error, RedisUtilsError):
            return valid(error.message)
        return valid(str(error)) if self._query_text else None


def _batch(payload: bytes, size: int) -> tuple[str, int | None]:
    """The name of several commands, and how many they are; a single one is no batch."""
    multi = command_name(payload, batch=True) == "TRANSACTION"
    kind = "MULTI" if multi else "PIPELINE"
    if multi:
        size -= 2
    if not 1 <= size <= _LOOKED_AT:
        return kind, size
    commands = unpack(payload)
    names = {_name(words) for words in (commands[1:-1] if multi else commands)}
    name = names.pop()
    if size == 1:
        return name, None
    return (kind if names else f"{kind} {name}"), size


def _name(words: list[bytes]) -> str:
    command = lookup(words)
    return command.name if command.known else OTHER


def _query(payload: bytes) -> str:
    """The commands in ``payload`` with a ``?`` for whatever is no key."""
    queries = []
    shown = 0
    for words in unpack(payload):
        name = _name(words)
        # What is not known to be a key may be a secret.
        keys = set() if name == OTHER else set(keys_of(words))
        said = len(name.split()) if name != OTHER else 1
        arguments = (
            word.decode("utf-8", "backslashreplace") if word in keys else "?"
            for word in words[said:]
        )
        queries.append(" ".join((name, *arguments)))
        shown += len(queries[-1]) + 2
        if shown > _QUERY_SHOWN:
            break
    return "; ".join(queries)[:_QUERY_SHOWN]


def _failure(
    future: Future[Any], error_in: Callable[[Any], BaseException | None]
) -> BaseException | None:
    """What its caller is told is wrong."""
    if future.cancelled():
        return CancelledError("the caller was cancelled, or has gone")
    error = future.exception()
    if error is not None:
        return error
    return error_in(future.result())


def _nothing(answer: Any) -> None:
    """Of one command: an error is no answer, and what is may be long."""


def _first_error(answers: list[Any]) -> BaseException | None:
    """Of several."""
    return next((each for each in answers if isinstance(each, Exception)), None)


def _first_of_batch(answers: list[Any]) -> BaseException | None:
    """Of what was issued together: EXEC's answer, the last, holds those of the commands."""
    executed = answers[-1] if answers and isinstance(answers[-1], list) else []
    return _first_error(answers) or _first_error(executed)
