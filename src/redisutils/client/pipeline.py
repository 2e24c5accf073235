"""Pipelines: several commands in one write, answered together.

=======================  =======================================  ===========================
pipeline                 goes out                                 its connection
=======================  =======================================  ===========================
plain                    contiguously                             the client's lane
MULTI … EXEC             contiguously                             the client's lane
after ``watch()``        commands one by one, then MULTI … EXEC   its own, until it is reset
=======================  =======================================  ===========================

One that holds a command which blocks or changes its connection's state takes a connection
of its own as well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import wraps
from time import monotonic
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

import redis.asyncio.client
from redis.client import EMPTY_RESPONSE, NEVER_DECODE
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ExecAbortError, RedisError, ResponseError, WatchError
from redis.exceptions import TimeoutError as RedisTimeoutError

from redisutils.client.callbacks import settled, shape
from redisutils.client.refusals import refuse_unanswered
from redisutils.client.source import lane_of
from redisutils.commands import Command, block_timeout, is_blocking, keys_of, lookup
from redisutils.commands.command import WAITING
from redisutils.connection.alarm import FOREVER
from redisutils.connection.packing import pack, pack_many
from redisutils.connection.protocol import Connection
from redisutils.errors import Outcome, happened, outcome_of, with_outcome

__all__ = ["Pipeline", "PipelineClient"]

_Stack = list[tuple[tuple[Any, ...], dict[str, Any]]]

_UNWATCH: Final = pack(("UNWATCH",))

_NO_OPTIONS: Final[dict[str, Any]] = {}
"""The options of commands that have none. Nobody writes to it."""

_WATCHING = frozenset({"WATCH", "UNWATCH", "MULTI", "EXEC", "DISCARD"})
"""What changes a connection's state in a way that recycling undoes."""


class OwnConnection(Protocol):
    """A connection of a pipeline's own, for as long as it watches."""

    @property
    def item(self) -> Connection: ...

    def release(self, *, discard: bool = False) -> None: ...


class PipelineClient(Protocol):
    """What a pipeline needs of its client."""

    connection_pool: Any
    response_callbacks: Any
    _decode: bool
    _encoding: tuple[str, str]
    _lane: Any
    _roads: dict[Any, Any]
    _timeout: float

    def get_encoder(self) -> Any: ...

    def _learn(self, command: Command, name: Any) -> None: ...

    def _shape(self, response: Any, name: Any, options: dict[str, Any]) -> Any: ...

    async def _own_connection(self, args: Sequence[Any]) -> OwnConnection: ...


class Pipeline(redis.asyncio.client.Pipeline):
    """redis-py's pipeline on our connections. Made by ``client.pipeline()``.

    Not for several tasks at once. An error while its fate is unknown is never turned into a
    ``WatchError``, which would invite the caller to do it all again: see ``execute``.
    """

    def __init__(self, client: PipelineClient, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(
            client.connection_pool,
            client.response_callbacks,
            transaction,
            shard_hint,
        )
        self._client = client
        self._lease: OwnConnection | None = None

    # -- queueing --------------------------------------------------------------------

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Queue a command and return the pipeline; while watching, and for WATCH itself, execute
        it at once and return an awaitable of its reply."""
        if (self.watching or args[0] == "WATCH") and not self.explicit_transaction:
            return self.immediate_execute_command(*args, **options)
        self.command_stack.append((args, options))
        return self

    def get(self, name: Any) -> Any:
        """redis-py's ``get``, on a shorter path."""
        if self.watching and not self.explicit_transaction:
            return self.immediate_execute_command("GET", name)
        self.command_stack.append((("GET", name), _NO_OPTIONS))
        return self

    if not TYPE_CHECKING:  # which is to see redis-py's own signature

        @wraps(redis.asyncio.Redis.set)
        def set(self, name, value, *args, **options):
            # A shorter path when there is no option.
            if args or options or (self.watching and not self.explicit_transaction):
                return super().set(name, value, *args, **options)
            self.command_stack.append((("SET", name, value), _NO_OPTIONS))
            return self

    # -- executing -------------------------------------------------------------------

    async def execute(self, raise_on_error: bool = True) -> list[Any]:
        """Send what is queued; return the replies in order.

        Args:
            raise_on_error: raise the first error reply; otherwise it stands in the list.

        Raises:
            WatchError: a watched key changed, or the connection was lost before EXEC
                was written: nothing was executed.
            ConnectionLost, CommandTimeout: with ``outcome`` UNKNOWN it may all have been
                executed, or, of a plain pipeline, a part.
        """
        stack = cast(_Stack, self.command_stack)
        if not stack and not self.watching:
            return []
        try:
            if self.scripts:
                load_scripts: Callable[[], Awaitable[None]] = self.load_scripts
                await load_scripts()
            if self.is_transaction or self.explicit_transaction:
                return await self._transaction(stack, raise_on_error)
            return await self._plain(stack, raise_on_error)
        finally:
            await self.reset()

    async def _plain(self, stack: _Stack, raise_on_error: bool) -> list[Any]:
        answers = await self._send([args for args, _ in stack], stack)
        # Most commands are ordinary: their callback is known (see Redis._learn), or that they
        # have none.
        roads = self._client._roads
        results: list[Any] = []
        failed = False
        for answer, (args, options) in zip(answers, stack, strict=True):
            result = answer
            if isinstance(answer, Exception):
                if EMPTY_RESPONSE in options and isinstance(answer, ResponseError):
                    result = options[EMPTY_RESPONSE]
                else:
                    failed = True
            elif type(args[0]) is not str or args[0] not in roads:
                result = await self._shaped(answer, args, options)
            elif (callback := roads[args[0]]) is not None:
                result = shape(callback, answer, options)
                if hasattr(result, "__await__"):
                    result = await settled(result)
            results.append(result)
        if failed and raise_on_error:
            self.raise_first_error(stack, results)
        return results

    async def _transaction(self, stack: _Stack, raise_on_error: bool) -> list[Any]:
        # A command with EMPTY_RESPONSE has nothing to send: its answer is known.
        sent = [args for args, options in stack if EMPTY_RESPONSE not in options]
        watched = self.watching
        try:
            answers = await self._send([("MULTI",), *sent, ("EXEC",)], stack)
        except (RedisConnectionError, RedisTimeoutError) as error:
            if watched and outcome_of(error) is Outcome.NOT_SENT:
                raise WatchError(
                    f"the connection was lost while watching: {happened(error)}"
                ) from error
            raise
        self.watching = False
        executed = answers[-1]
        errors: list[tuple[int, Exception]] = []
        if isinstance(answers[0], Exception):
            if not all(isinstance(answer, Exception) for answer in answers[1:-1]):
                raise _executed_without_multi(answers[0])
            errors.append((0, answers[0]))
        queued = iter(answers[1:-1])
        for position, (args, options) in enumerate(stack):
            answer = options[EMPTY_RESPONSE] if EMPTY_RESPONSE in options else next(queued)
            if EMPTY_RESPONSE in options:
                errors.append((position, answer))
            elif isinstance(answer, Exception):
                self.annotate_exception(answer, position + 1, args)
                errors.append((position, answer))
        if isinstance(executed, ExecAbortError) and errors:
            raise errors[0][1] from executed
        if isinstance(executed, Exception):
            raise errors[0][1] if errors else executed
        if executed is None:
            raise with_outcome(WatchError("Watched variable changed."), Outcome.REJECTED)
        results = list(executed)
        for position, refusal in errors:
            results.insert(position, refusal)
        if len(results) != len(stack):
            raise ResponseError(f"EXEC answered {len(results)} replies to {len(stack)} commands")
        if raise_on_error:
            self.raise_first_error(stack, results)
        return [
            result if isinstance(result, Exception) else await self._shaped(result, args, options)
            for result, (args, options) in zip(results, stack, strict=True)
        ]

    async def _send(self, commands: list[tuple[Any, ...]], stack: _Stack) -> list[Any]:
        """Write ``commands`` contiguously and return their answers, errors among them."""
        client = self._client
        payload = pack_many(commands, *client._encoding)
        timeout = client._timeout
        roads = client._roads
        apart = tainted = raw = False
        for args, options in stack:
            if options and NEVER_DECODE in options:
                raw = client._decode
            if type(args[0]) is str and args[0] in roads:
                continue
            command = lookup(args)
            client._learn(command, args[0])
            refuse_unanswered(command)
            if command.stateful or command.blocking:
                apart = True
                tainted = tainted or command.name not in WAITING
                if command.blocking and is_blocking(command, args) and not self._in_transaction:
                    waits = block_timeout(command, args)
                    timeout = FOREVER if waits is None else min(FOREVER, timeout + waits)
        if apart or self._lease is not None:
            started = monotonic()
            keyed = next((args for args, _ in stack if keys_of(args)), ())
            connection = (await self._own(keyed)).item
            timeout -= monotonic() - started
            connection.tainted = connection.tainted or tainted
            lane: Any = lane_of(connection)
        else:
            lane = client._lane
        answers: list[Any] = await lane.submit_many(
            payload, len(commands), client._decode and not raw, timeout
        )
        if raw:
            decode = client.get_encoder().decode
            if not self._in_transaction:
                _decode_some(answers, [options for _, options in stack], decode)
            elif isinstance(answers[-1], list):
                sent = [options for _, options in stack if EMPTY_RESPONSE not in options]
                _decode_some(answers[-1], sent, decode)
        return answers

    @property
    def _in_transaction(self) -> bool:
        return bool(self.is_transaction or self.explicit_transaction)

    async def _shaped(self, answer: Any, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        shaped = self._client._shape(answer, args[0], options)
        return await settled(shaped) if hasattr(shaped, "__await__") else shaped

    def raise_first_error(self, commands: Any, response: Iterable[Any]) -> None:
        """Raise the first error reply among ``response``, with its place and command."""
        for position, answer in enumerate(response):
            if isinstance(answer, Exception):
                self.annotate_exception(answer, position + 1, commands[position][0])
                raise answer

    # -- watching --------------------------------------------------------------------

    async def _own(self, args: Sequence[Any]) -> OwnConnection:
        """The connection of our own, on which ``args`` can be executed. One that died before
        anything was watched is replaced."""
        lease = self._lease
        if lease is not None and lease.item.closed and not self.watching:
            self._lease = None
            lease.release()
        if self._lease is None:
            self._lease = await self._client._own_connection(args)
        return self._lease

    async def immediate_execute_command(self, *args: Any, **options: Any) -> Any:
        """Execute at once, on the pipeline's own connection: WATCH, and what is read before MULTI.

        Raises:
            WatchError: the connection was lost while keys were watched: they are not any more.
        """
        client = self._client
        command = lookup(args)
        refuse_unanswered(command)
        payload = pack(args, *client._encoding)
        timeout = client._timeout
        blocking = is_blocking(command, args)
        if blocking:
            waits = block_timeout(command, args)
            timeout = FOREVER if waits is None else min(FOREVER, timeout + waits)
        if self._lease is not None or command.stateful or blocking:
            started = monotonic()
            connection = (await self._own(args)).item
            timeout -= monotonic() - started
            if command.name in _WATCHING:
                connection.needs_reset = True
            elif command.taints:
                connection.tainted = True
            submit = lane_of(connection).submit
        else:
            submit = client._lane.submit
        decode = client._decode and NEVER_DECODE not in options
        try:
            answer = await submit(payload, decode, timeout)
        except ResponseError:
            if EMPTY_RESPONSE in options:
                return options[EMPTY_RESPONSE]
            raise
        except (RedisConnectionError, RedisTimeoutError) as error:
            if self.watching and (command.readonly or command.stateful):
                await self.reset()
                raise WatchError(
                    f"the connection was lost while watching: {happened(error)}"
                ) from error
            raise
        if command.name == "WATCH":
            self.watching = True
        elif command.name in self.UNWATCH_COMMANDS:
            self.watching = False
        return await self._shaped(answer, args, options)

    async def reset(self) -> None:  # type: ignore[override]  # as redis-py's: RESET, the command, is another
        """Forget what is queued and watched, and give the connection back."""
        self.command_stack = []
        self.scripts = set()
        watching, self.watching = self.watching, False
        self.explicit_transaction = False
        lease, self._lease = self._lease, None
        if lease is None:
            return
        try:
            # Where an answer is owed still, a budget was spent on it, or its caller has gone: it
            # is not for us to wait again. Such a connection is closed as it is given back.
            if watching and not lease.item.closed:
                overdue = lease.item.in_flight
                undone = lease.item.submit(_UNWATCH, False, self._client._timeout)
                if overdue:
                    undone.add_done_callback(_forget)
                else:
                    await undone
        except RedisError:
            pass  # lost: with it the watch is gone
        finally:
            # With the answer still owed, as to a caller that was cancelled, it is closed.
            lease.release()


def _forget(reply: asyncio.Future[Any]) -> None:
    """Nobody awaits it."""
    if not reply.cancelled():
        reply.exception()


def _lost_while_watching(error: Exception) -> WatchError:
    return WatchError(f"the connection was lost while watching: {happened(error)}")


def _executed_without_multi(refusal: Exception) -> Exception:
    """MULTI was refused (a user who may not), and what came after it was executed all the same."""
    told = type(refusal)(
        f"{refusal} (MULTI was refused, and commands after it were executed one by one)"
    )
    told.__cause__ = refusal
    return with_outcome(told, Outcome.UNKNOWN)


def _decode_some(answers: list[Any], options: list[dict[str, Any]], decode: Any) -> None:
    """Decode the answers in place, but for those of commands that are never decoded."""
    for position, each in enumerate(options):
        if NEVER_DECODE not in each:
            answers[position] = _decoded(answers[position], decode)


def _decoded(value: Any, decode: Any) -> Any:
    """``value`` with all bytes in it decoded."""
    if isinstance(value, list):
        return [_decoded(item, decode) for item in value]
    if isinstance(value, dict):
        return {_decoded(k, decode): _decoded(v, decode) for k, v in value.items()}
    if isinstance(value, set):
        return {_decoded(item, decode) for item in value}
    return decode(value)
