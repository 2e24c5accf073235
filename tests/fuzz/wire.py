"""A connection that is fed whatever the fuzzer thinks of, and an oracle that says what must follow.

An input is a program: each byte is a step, some take more bytes. Callers ask, alone or in batches,
are cancelled, and ask again inside the read callback that woke them, or just before it; the peer
sends bytes, valid or not, in pieces. The oracle reads the same bytes with ``tests/resp.py``. It
holds that

* no exception leaves ``data_received``;
* whoever is answered has what the oracle says is his, whoever is not is told so;
* the owner hears each push message, and of a refusal the code of that refusal;
* the queue is as long as the oracle's;
* after garbage, or a reply too many, the connection is closed, and without them it is open;
* nobody waits on a closed connection.

What the oracle does not know, since the parser is free to take or refuse it, it lets pass: from
there on it holds only that nothing escapes and nobody hangs.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from dataclasses import dataclass, field
from typing import Any, Final

from redisutils.connection.alarm import FOREVER
from redisutils.connection.owner import Owner
from redisutils.connection.packing import pack
from redisutils.connection.protocol import Connection
from redisutils.connection.reply import Batch, Reply
from redisutils.errors import ConnectionLost, Outcome, outcome_of
from redisutils.metrics import PoolMetrics
from tests.resp import INCOMPLETE, Broken, Node, is_text, parse, seen, shown

__all__ = ["FRAMES", "STEPS", "one_input"]

FRAMES: Final = (
    b"+OK\r\n",
    b"-ERR no\r\n",
    b"-MOVED 1 h:1\r\n",
    b":-12\r\n",
    b"$3\r\na\r\n\r\n",
    b"$1\r\n\xff\r\n",
    b"$-1\r\n",
    b"_\r\n",
    b"#t\r\n",
    b",1.5\r\n",
    b",nan\r\n",
    b"(-123456789012345678901234567890\r\n",
    b"=7\r\ntxt:abc\r\n",
    b"*-1\r\n",
    b"*3\r\n+a\r\n-TRYAGAIN b\r\n*1\r\n$1\r\n\xfe\r\n",
    b"~2\r\n:1\r\n#f\r\n",
    b"%2\r\n+a\r\n*0\r\n$1\r\n\xff\r\n%0\r\n",
    b">2\r\n+invalidate\r\n*1\r\n$1\r\nk\r\n",
    b">2\r\n-LOADING odd\r\n$1\r\n\xff\r\n",
    b"|1\r\n+a\r\n+b\r\n",
    b"-MOVED nowhere\r\n",
    b"%1\r\n*0\r\n:1\r\n",
)
"""What a program can send with two bytes."""

STEPS: Final = ("ask", "batch", "again", "cancel", "turn", "frame", "crossed", "bytes", "hang up")
"""What a program is made of, by number."""

_CODE: Final = re.compile("-?[A-Z][A-Z0-9_]{1,31}")
"""What a refusal begins with, if a server and not a script made it up."""

_PING: Final = pack(("PING",))
_KNOWN_LIMIT = re.compile(rb"[*~>%][0-9]{6}")
"""The parser makes room for as many elements as are announced; nothing is to be learnt from it."""


class _Program:
    """The bytes of an input, taken one after the other; 0 when there are none left."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def __bool__(self) -> bool:
        return self._at < len(self._data)

    def number(self, below: int) -> int:
        piece = self.take(1)
        return piece[0] % below if piece else 0

    def take(self, count: int) -> bytes:
        piece = self._data[self._at : self._at + count]
        self._at += count
        return piece


class _Line(asyncio.Transport):
    """The way to nobody: it counts what is written, and hangs up as a socket's transport does."""

    def __init__(self, loop: asyncio.AbstractEventLoop, connection: Connection) -> None:
        super().__init__()
        self._loop = loop
        self._connection = connection
        self.written = 0
        self.up = True

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self._connection.closed
        if self.up:  # else it is dropped, and the connection will hear of it
            self.written += len(data)

    def abort(self) -> None:
        if self.up:
            self.up = False
            self._loop.call_soon(self._connection.connection_lost, None)

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class _Told(Owner[Connection]):
    """What the connection tells its owner."""

    def __init__(self) -> None:
        self.pushes: list[str] = []

    def on_push(self, connection: Connection, message: Any) -> None:
        self.pushes.append(_flat(shown(message)))

    def on_rejected(self, connection: Connection, reply: Reply, value: Any, code: str) -> bool:
        if not isinstance(reply, Batch):
            word = value.status_code or str(value).split(" ")[0]
            assert code == (word if _CODE.fullmatch(word) else "OTHER")
        return False


def _flat(text: str) -> str:
    """Whether strings of a push are decoded is up to the reply that is due, which says little of
    what it must be: only its length is compared."""
    return re.sub(r"b?'[^']*'|b?\"[^\"]*\"", "''", text)


@dataclass
class _Asked:
    size: int
    batch: bool
    decode: bool
    again: int
    ends: int
    """How many bytes have been written when its command has."""
    future: asyncio.Future[Any] = field(init=False)
    task: asyncio.Task[Any] = field(init=False)
    got: list[Any] = field(default_factory=list)
    """What has come for it, as ``shown``."""


class _Oracle:
    """What must become of those who asked, told by the bytes."""

    def __init__(self, tainted: bool) -> None:
        self.tainted = tainted
        self.queue: deque[_Asked] = deque()
        self.pushes: list[str] = []
        self.knows = True
        self.over = False
        """Whether what has come ends the connection."""
        self._rest = b""
        self._begun_for_nobody = False

    def hear(self, data: bytes, written: int) -> None:
        """``data`` has come when ``written`` bytes had been written."""
        self._rest += data
        owed = sum(each.ends <= written for each in self.queue)
        if owed and self._begun_for_nobody and self.queue[0].decode:
            self.knows = False  # a part of it was read before anyone wanted it decoded
        at = 0
        try:
            while not self.over:
                one = parse(self._rest, at)
                if one is INCOMPLETE:
                    break
                node, at = one
                owed -= self._take(node, owed)
        except (Broken, TypeError):
            self.knows = False
        self._rest = self._rest[at:]
        self._begun_for_nobody = bool(self._rest) and not owed

    def _take(self, node: Node, owed: int) -> bool:
        """Give ``node`` to whom it belongs. Returns whether he has all of his."""
        head = self.queue[0] if owed else None
        decode = head is not None and head.decode
        text = is_text(node) or not decode
        value = shown(seen(node, decode)) if text else "not text"
        if not text and self.tainted:
            self.over = True
        elif node.kind == ">":
            if not text:
                raise Broken  # nobody can tell it from a reply
            self.pushes.append(_flat(value))
        elif head is None:
            self.over = True
        else:
            head.got.append(value)
            if len(head.got) == head.size:
                self.queue.popleft()
                return True
        return False


class _Run:
    """One input."""

    def __init__(self, loop: asyncio.AbstractEventLoop, tainted: bool) -> None:
        self.loop = loop
        self.connection = Connection("the-peer:1", PoolMetrics())
        self.connection.owner = self.told = _Told()
        self.connection.tainted = tainted
        self.line = _Line(loop, self.connection)
        self.connection.connection_made(self.line)
        self.oracle = _Oracle(tainted)
        self.all: list[_Asked] = []
        self.issued = 0
        self.hung_up = False
        self.trouble: list[dict[str, Any]] = []

    def ask(self, size: int, batch: bool, decode: bool, again: int) -> None:
        self.issued += size * len(_PING)
        asked = _Asked(size, batch, decode, again, self.issued)
        if self.connection.closed:
            asked.ends = 2**62  # never
        self.all.append(asked)
        self.oracle.queue.append(asked)
        if batch:
            asked.future = self.connection.submit_many(_PING * size, size, decode, FOREVER)
        else:
            asked.future = self.connection.submit(_PING, decode, FOREVER)
        asked.task = self.loop.create_task(self._wait(asked))

    async def _wait(self, asked: _Asked) -> Any:
        try:
            return await asked.future
        finally:
            if asked.again:
                self.ask(1, False, asked.decode, asked.again - 1)

    async def say(self, data: bytes) -> None:
        """Let the connection read ``data``, as the loop does it."""
        if not self.line.up:
            return
        self.loop.call_soon(self._read, data)
        await asyncio.sleep(0)
        self.check()

    def _read(self, data: bytes) -> None:
        if not self.line.up:  # since it was to be read
            return
        written = self.line.written
        self.connection.data_received(data)
        if self.oracle.knows and not self.oracle.over:
            self.oracle.hear(data, written)

    def check(self) -> None:
        assert not self.trouble, self.trouble
        if not self.oracle.knows or self.hung_up:
            return
        assert self.connection.closed == self.oracle.over, self.oracle.over
        assert self.told.pushes == self.oracle.pushes
        if not self.oracle.over:
            assert self.connection.in_flight == len(self.oracle.queue)

    async def play(self, program: _Program) -> None:
        while program:
            step = STEPS[program.number(len(STEPS))]
            if step == "ask":
                self.ask(1, False, bool(program.number(2)), 0)
            elif step == "batch":
                self.ask(1 + program.number(20), True, bool(program.number(2)), 0)
            elif step == "again":
                self.ask(1, False, bool(program.number(2)), program.number(3))
            elif step == "cancel" and self.all:
                self.all[program.number(256) % len(self.all)].task.cancel()
            elif step == "turn":
                await asyncio.sleep(0)
            elif step == "frame":
                frame = FRAMES[program.number(len(FRAMES))]
                cut = program.number(len(frame))
                for piece in (frame[:cut], frame[cut:]):
                    if piece:
                        await self.say(piece)
            elif step == "crossed":
                self.loop.call_soon(self.ask, 1, False, bool(program.number(2)), 0)
                first, second = program.number(len(FRAMES)), program.number(len(FRAMES))
                await self.say(FRAMES[first] + FRAMES[second])
            elif step == "bytes":
                await self.say(program.take(1 + program.number(64)))
            elif step == "hang up" and program.number(4) == 0:
                self.hang_up()

    def hang_up(self) -> None:
        self.hung_up = True
        self.line.abort()

    async def end(self) -> None:
        """All is over, and nobody may hang."""
        self.check()
        self.hang_up()
        for _ in range(8):  # as long as it takes those who ask again
            await asyncio.sleep(0)
        assert not self.trouble, self.trouble
        assert self.connection.closed
        assert self.connection.in_flight == 0
        for asked in self.all:
            assert asked.task.done(), "somebody hangs"
            assert asked.future.done()
            if asked.task.cancelled():
                # He may have gone before he began to wait.
                asked.future.cancelled() or asked.future.exception()
            else:
                self._judge(asked)

    def _judge(self, asked: _Asked) -> None:
        error = asked.task.exception()
        if isinstance(error, ConnectionLost):
            # Written or not, by what he is told; and answered, by the oracle, he was not.
            assert error.outcome in (Outcome.UNKNOWN, Outcome.NOT_SENT)
            if error.outcome is Outcome.NOT_SENT:
                assert asked.ends > self.line.written
            if self.oracle.knows:
                assert len(asked.got) < asked.size
            return
        answers = asked.task.result() if error is None and asked.batch else [error]
        if error is None and not asked.batch:
            answers = [asked.task.result()]
        for answer in answers:
            if isinstance(answer, BaseException):
                text = isinstance(answer, UnicodeDecodeError)
                assert outcome_of(answer) is (Outcome.EXECUTED if text else Outcome.REJECTED)
        if self.oracle.knows:
            assert [
                "not text" if isinstance(answer, UnicodeDecodeError) else shown(answer)
                for answer in answers
            ] == asked.got


async def _run(data: bytes) -> None:
    loop = asyncio.get_running_loop()
    program = _Program(data)
    run = _Run(loop, bool(program.number(2)))
    loop.set_exception_handler(lambda _, context: run.trouble.append(context))
    await run.play(program)
    await run.end()


def one_input(loop: asyncio.AbstractEventLoop, data: bytes) -> None:
    """Play the program ``data``.

    Raises:
        AssertionError: a promise is broken.
    """
    if not _KNOWN_LIMIT.search(data):
        loop.run_until_complete(_run(data))
