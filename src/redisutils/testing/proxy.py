"""A network that fails on command: a TCP proxy between a client and a real server.

A proxy belongs to the event loop that entered it. All that switches a fault is synchronous and
takes effect before the next byte is forwarded. How bytes go through it: ``_relay.py``.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import socket
from collections.abc import Callable, Iterator
from random import SystemRandom
from types import TracebackType
from typing import Literal, Self, TypeAlias, get_args

from redisutils.connection.embedded import free_port

from ._checks import Settable, check_choice, check_count, check_port, refuse
from ._direction import SETTINGS, Direction
from ._relay import Connection, Faults, SwallowOrder, Then

__all__ = ["Direction", "FaultKind", "FaultProxy"]

HOST = "127.0.0.1"

FaultKind: TypeAlias = Literal["stall", "blackhole", "swallow", "refuse"]
Side: TypeAlias = Literal["client", "server"]


class FaultProxy(Settable):
    """A TCP proxy on 127.0.0.1 whose faults are switched while traffic flows.

    ::

        async with FaultProxy(server.host, server.port) as proxy:
            redis = Redis(port=proxy.port, password=server.password)
            proxy.to_client.latency = 0.05
            proxy.swallow_replies(1, lambda request: b"INCR" in request, then="reset")
            ...
            proxy.restore()

    What is set on ``to_client`` and ``to_server`` before the proxy is entered holds from the start;
    all other faults raise RuntimeError unless it runs. Which are in force stands in the repr. An
    attribute that there is not is an AttributeError.

    :param target_host: where the server is; attributes ``target_host`` and ``target_port`` may be
        changed, for new connections.
    :param target_port: its port.
    :param seed: of the jitter, a whole number; None (the default) draws one. It is in the repr,
        so that a run can be repeated. A connection's jitter depends on the seed and on how many
        connections came before, not on the traffic of others.
    :raises ConfigError: when the port is none, or the seed no whole number.
    """

    __slots__ = (
        "__weakref__",
        "_blackholed",
        "_claim",
        "_connections",
        "_failure",
        "_faults",
        "_listener",
        "_home",
        "_port",
        "_running",
        "_waiters",
        "accepted",
        "seed",
        "target_host",
        "target_port",
    )

    host = HOST

    def __init__(self, target_host: str, target_port: int, *, seed: int | None = None) -> None:
        check_port("target_port", target_port)
        check_count("seed", seed, 0)
        self.target_host = target_host
        self.target_port = target_port
        self.seed = SystemRandom().randrange(2**32) if seed is None else seed
        self.accepted = 0
        """Connections accepted since the start."""
        self._faults = Faults(self._changed)
        self._blackholed = False
        self._running = False
        self._port: int | None = None
        self._home: asyncio.AbstractEventLoop | None = None
        self._listener: socket.socket | None = None
        self._claim: socket.socket | None = None
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._waiters: list[tuple[Callable[[FaultProxy], bool], asyncio.Future[None]]] = []
        # Raised when the proxy is left.
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} :{self._port} to {self.target_host}:{self.target_port} "
            f"accepted={self.accepted} active={self.active} "
            f"to_server={self.to_server.forwarded} to_client={self.to_client.forwarded} "
            f"seed={self.seed} faults: {', '.join(self._in_force()) or 'none'}>"
        )

    @property
    def port(self) -> int:
        """The port on 127.0.0.1, the same as long as the proxy lives.

        :raises RuntimeError: before; and on another event loop than the proxy's while that one
            does not run: nobody would answer.
        """
        if self._port is None:
            raise RuntimeError("the proxy has not been started: use it in 'async with'")
        home, here = self._home, asyncio._get_running_loop()
        if not (home is None or here is None or home.is_running()):
            raise _on_another_loop()
        return self._port

    @property
    def to_server(self) -> Direction:
        """The way from clients to the server."""
        return self._faults.to_server

    @property
    def to_client(self) -> Direction:
        """The way from the server to clients."""
        return self._faults.to_client

    @property
    def swallowed(self) -> int:
        """How often :meth:`swallow_replies` has struck since the start."""
        return self._faults.swallowed

    @property
    def active(self) -> int:
        """Connections that are open now."""
        return len(self._connections)

    async def __aenter__(self) -> Self:
        self._home = asyncio.get_running_loop()
        if hasattr(socket, "SO_REUSEPORT"):
            self._claim = self._claim_port()
        else:
            self._port = free_port()
        self._listen()
        self._running = True
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._running = False
        self._stop_listening()
        if self._claim is not None:
            self._claim.close()
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._failure is not None and error is None:
            raise self._failure

    # --- faults ---

    def check_running(self) -> None:
        """RuntimeError unless it runs (was entered and not left): no fault would strike."""
        if not self._running:
            state = "has not been started" if self._port is None else "has been left"
            raise RuntimeError(f"the proxy {state}: use it in 'async with'")

    def stall(self) -> None:
        """Forward nothing either way, and read nothing: what a client sends piles up, at last in
        its own buffers. After :meth:`restore` all of it arrives, late replies included."""
        self.check_running()
        self._faults.flowing.clear()

    def blackhole(self) -> None:
        """Accept connections and answer nothing, and let open ones fall silent: every byte gets
        lost. After :meth:`restore` new connections work; those of before stay silent."""
        self.check_running()
        self._blackholed = True
        for connection in self._connections:
            connection.silent = True

    def swallow_replies(
        self,
        count: int | None = None,
        predicate: Callable[[bytes], bool] | None = None,
        then: Then = "silence",
    ) -> None:
        """Let the server receive and execute what is sent, but keep its reply from the client.

        It strikes when bytes of a client for which ``predicate`` is true arrive (a piece as read
        from the socket, in general what one write has sent); from then on nothing more goes back
        on that connection, replies to earlier requests that are still under way included.

        :param count: how many times, None (the default) until :meth:`restore`.
        :param predicate: of the bytes; None (the default) for all.
        :param then: what follows when the reply comes: ``"silence"`` (the default), or the
            client's connection is ended by ``"close"`` or ``"reset"``. The server still gets to
            execute all that it was sent.
        :raises ConfigError: for any other ``then``, a ``count`` below 0, or no function.
        """
        check_count("count", count, 0)
        check_choice("then", then, get_args(Then))
        if not (predicate is None or callable(predicate)):
            refuse("predicate", predicate, "must be a function of bytes, or None")
        self.check_running()
        self._faults.swallow = SwallowOrder(count, predicate, then)

    def refuse(self) -> None:
        """Stop listening: new connections are refused, open ones go on."""
        self.check_running()
        self._stop_listening()

    def close_all(self) -> None:
        """End all open connections, with FIN."""
        self.check_running()
        for connection in self._connections:
            connection.end("close")

    def reset(self) -> None:
        """End all open connections, with RST."""
        self.check_running()
        for connection in self._connections:
            connection.end("reset")

    def half_close(self, toward: Side = "client") -> None:
        """Send FIN one way on all open connections: that side reads the end of the stream, and
        can go on writing. ConfigError for any other side."""
        check_choice("toward", toward, get_args(Side))
        self.check_running()
        for connection in self._connections:
            connection.half_close(toward)

    def restore(self, *kinds: FaultKind) -> None:
        """Take faults off: those named, or with none named all of them, on both directions too,
        and listen again. Connections that lost bytes stay silent. A proxy that was left may be
        restored, too: whoever tidies up need not know.

        :param kinds: of ``"stall"``, ``"blackhole"``, ``"swallow"`` and ``"refuse"``.
        :raises ConfigError: for any other.
        """
        for kind in kinds:
            check_choice("kind", kind, get_args(FaultKind))
        if self._port is None:
            self.check_running()
        if not kinds:
            self.to_server.restore()
            self.to_client.restore()
        wanted = kinds or get_args(FaultKind)
        if "swallow" in wanted:
            self._faults.swallow = None
        if "blackhole" in wanted:
            self._blackholed = False
        if "stall" in wanted:
            self._faults.flowing.set()
        if "refuse" in wanted and self._running and self._listener is None:
            self._listen()

    def _in_force(self) -> Iterator[str]:
        if not self._faults.flowing.is_set():
            yield "stalled"
        if self._blackholed:
            yield "blackhole"
        if self._running and self._listener is None:
            yield "refusing"
        if self._faults.swallow is not None and not self._faults.swallow.carried_out:
            yield "swallowing"
        for name, direction in (("to_server", self.to_server), ("to_client", self.to_client)):
            for fault in direction.faults:
                yield f"{name} {fault}"

    def _no_setting(self, name: str) -> str:
        if name in SETTINGS:
            return f"set {name!r} on to_client or to_server: each way has its own"
        return super()._no_setting(name)

    # --- waiting ---

    async def wait_until(
        self, condition: Callable[[FaultProxy], bool], timeout: float = 10.0
    ) -> None:
        """Wait until ``condition(self)`` is true. It is asked whenever a counter has changed.

        :raises TimeoutError: after ``timeout`` seconds, default 10; the counters are in it.
        """
        if condition(self):
            return
        waiter = condition, self._own_loop().create_future()
        self._waiters.append(waiter)
        try:
            await asyncio.wait_for(waiter[1], timeout)
        except TimeoutError:
            raise TimeoutError(f"waited {timeout} s in vain: {self!r}") from None
        finally:
            self._waiters.remove(waiter)

    async def wait_accepted(self, count: int, timeout: float = 10.0) -> None:
        """Wait until at least ``count`` connections have been accepted since the start."""
        await self.wait_until(lambda proxy: proxy.accepted >= count, timeout)

    async def wait_active(self, count: int, timeout: float = 10.0) -> None:
        """Wait until exactly ``count`` connections are open."""
        await self.wait_until(lambda proxy: proxy.active == count, timeout)

    def _changed(self) -> None:
        for condition, future in self._waiters:
            if not future.done() and condition(self):
                future.set_result(None)

    # --- connections ---

    def _own_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if loop is not self._home:
            raise _on_another_loop()
        return loop

    def _listen(self) -> None:
        loop = self._own_loop()
        listener = self._bind()
        listener.listen(1024)
        listener.setblocking(False)
        loop.add_reader(listener, self._accept, listener)
        self._listener = listener

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._own_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None

    def _claim_port(self) -> socket.socket:
        """A socket that is bound and never listens: nobody else gets the port while we refuse."""
        while True:
            self._port = free_port()
            try:
                return self._bind()
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                # Somebody had it a moment ago, and the system still remembers him.

    def _bind(self) -> socket.socket:
        bound = socket.socket()
        # Not SO_REUSEADDR where it can be helped: with it, Linux would let others bind the port.
        option = getattr(socket, "SO_REUSEPORT", socket.SO_REUSEADDR)
        bound.setsockopt(socket.SOL_SOCKET, option, 1)
        try:
            bound.bind((HOST, self.port))
        except OSError:
            bound.close()
            raise
        return bound

    def _accept(self, listener: socket.socket) -> None:
        try:
            client, _ = listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return  # It was gone before we came to it.
        except OSError as error:
            # No more files may be opened, say. The next try would be at once, and without end.
            self._failure = self._failure or error
            self.refuse()
            return
        connection = Connection(
            self._faults, client, silent=self._blackholed, seed=f"{self.seed}/{self.accepted}"
        )
        task = asyncio.create_task(connection.run(self.target_host, self.target_port))
        self._connections[connection] = task
        task.add_done_callback(functools.partial(self._served, connection))
        self.accepted += 1
        self._changed()

    def _served(self, connection: Connection, task: asyncio.Task[None]) -> None:
        del self._connections[connection]
        if not task.cancelled():
            # A predicate's or a bug.
            self._failure = self._failure or task.exception()
        self._changed()


def _on_another_loop() -> RuntimeError:
    return RuntimeError(
        "the proxy belongs to another event loop: use it on the one that entered it; with "
        "pytest-asyncio, give the fixture and the test the same loop_scope"
    )
