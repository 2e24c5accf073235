"""The keys of a run: their names are known without asking the server, so that they can be stored
before, and deleted after, without looking at anybody else's.

Every key begins with ``redisutils:bench:``, the run's random name, and has a TTL from the moment in
which it is made: what a run that was killed leaves behind goes away by itself. None of the commands
makes a key that was not stored before, and none grows beyond a bound: lists are cut, streams have
a MAXLEN, hashes and sorted sets have fixed fields and members.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from random import Random
from typing import Any, Final

from redis.exceptions import RedisError

from redisutils import Redis
from redisutils.cli.bench.mix import OPERATIONS
from redisutils.errors import ConfigError

__all__ = ["MAX_STORED", "Data"]

Command = tuple[Any, ...]

MAX_STORED: Final = 1_000_000_000
"""Bytes that a run stores, at most."""

FIELDS: Final = 10
MEMBERS: Final = 100
MOST: Final = {"zset": 1000, "list": 64, "stream": 16}
"""Keys of a kind, if they are fewer than ``--keys``: each of these holds many values."""
KEPT: Final = 1_000_000
"""Bytes that a list or a stream may come to, about."""
READY: Final = 20_000
"""Names that are kept, not made: 2 MB of them save the generator a tenth of its time."""
BATCH: Final = 200
"""Commands in a pipeline that stores or deletes."""
BATCH_BYTES: Final = 1_000_000
"""Bytes of values after which one that stores ends: it is held whole."""


class Data:
    """What a mix works on.

    Args:
        mix: the names of its commands.
        keys: how many of each kind; fewer of those that hold many values.
        sizes: the least and greatest number of bytes of a value.
        ttl: seconds that a key lives.
        seed: of which keys and values are drawn; None for any.
        prefix: what all keys begin with.

    Raises:
        ConfigError: they would come to more than ``MAX_STORED``.
    """

    def __init__(
        self,
        mix: Iterable[str],
        keys: int,
        sizes: tuple[int, int],
        ttl: int,
        *,
        seed: int | None = None,
        prefix: str | None = None,
    ) -> None:
        self.prefix = prefix or f"redisutils:bench:{secrets.token_hex(4)}:"
        self.ttl = ttl
        self.empty = False
        """Whether not one key could be stored."""
        self._random = Random(seed)
        self._counts = {
            space: min(keys, MOST.get(space, keys))
            for space in dict.fromkeys(OPERATIONS[name].space for name in mix)
            if space
        }
        low, high = sizes
        self._mean = (low + high) / 2
        self._keep = max(2, min(1000, int(KEPT / self._mean)))
        self.stored = self._estimate()
        if self.stored > MAX_STORED:
            raise ConfigError(
                f"--keys {keys:,} with values of {self._mean:,.0f} bytes would store about "
                f"{self.stored / 1e9:,.1f} GB; choose fewer keys or smaller values, to stay under "
                f"{MAX_STORED / 1e9:g} GB"
            )
        # A few, drawn again and again: what is in them is nothing to the server.
        lengths = [low + (high - low) * step // 31 for step in range(32)] if high > low else [low]
        self._values = [self._random.randbytes(length) for length in lengths]
        self._lists = [self._keep // 2] * self._counts.get("list", 0)

    def _estimate(self) -> float:
        per_key = {
            "string": self._mean,
            "counter": 20.0,
            "hash": FIELDS * self._mean,
            "list": self._keep * self._mean,
            "zset": MEMBERS * 20.0,
            "stream": self._keep * self._mean * 1.2,
        }
        return sum(count * (per_key[space] + 90) for space, count in self._counts.items())

    # -- before and after ----------------------------------------------------------------

    @property
    def keys(self) -> int:
        """How many there are of all kinds."""
        return sum(self._counts.values())

    def names(self) -> Iterator[str]:
        """All of them."""
        for space, count in self._counts.items():
            yield from (self._name(space, number) for number in range(count))

    async def store(self, client: Redis, *, go_on: Callable[[], bool] = lambda: True) -> None:
        """Make every key.

        Args:
            go_on: asked between batches; False ends it there.

        Raises:
            redis.exceptions.RedisError: what the server or the connection says.
        """
        commands = (
            command
            for space, count in self._counts.items()
            for number in range(count)
            for command in self._making(space, number)
        )
        stored = False
        while go_on() and (some := _batch(commands)):
            async with client.pipeline(transaction=False) as pipe:
                for command in some:
                    pipe.execute_command(*command)
                answers = await pipe.execute(raise_on_error=False)
            refused = [answer for answer in answers if isinstance(answer, RedisError)]
            if refused:
                self.empty = not stored and len(refused) == len(answers)
                told = str(refused[0])
                refused[0].args = (f"the keys of the run cannot be stored: {told}",)
                raise refused[0]
            stored = True

    async def delete(self, client: Redis) -> None:
        """Delete every key, by name.

        Raises:
            redis.exceptions.RedisError: what the server or the connection says.
        """
        names = self.names()
        while some := list(islice(names, BATCH)):
            try:
                await client.unlink(*some)
            except RedisError:  # forbidden, or older than UNLINK
                await client.delete(*some)

    def _name(self, space: str, number: int) -> str:
        return f"{self.prefix}{space}:{number}"

    def _making(self, space: str, number: int) -> Iterator[Command]:
        """The commands that make a key."""
        name = self._name(space, number)
        value = self._values[number % len(self._values)]
        if space == "string":
            yield "SET", name, value, "EX", self.ttl
            return
        if space == "counter":
            yield "SET", name, 0, "EX", self.ttl
            return
        if space == "hash":
            pairs = (item for field in range(FIELDS) for item in (f"f{field}", value))
            yield "HSET", name, *pairs
        elif space == "zset":
            members = (item for at in range(MEMBERS) for item in (at, f"member:{at}"))
            yield "ZADD", name, *members
        elif space == "list":
            yield "RPUSH", name, *[value] * self._lists[number]
        else:
            yield "XADD", name, "*", "v", value
        yield "EXPIRE", name, self.ttl

    # -- meanwhile -----------------------------------------------------------------------

    def dealer(self, operation: str) -> Callable[[], Command]:
        """What gives the next command of this kind: its words, drawn at random."""
        random, values, prefix = self._random.random, self._values, self.prefix
        space = OPERATIONS[operation].space
        count = self._counts[space] if space else 0
        begin, many = f"{prefix}{space}:", len(values)

        def key() -> str:
            return f"{begin}{int(random() * count)}"

        def value() -> bytes:
            return values[int(random() * many)]

        ttl, keep, channel = self.ttl, self._keep, f"{prefix}channel"
        dealers: dict[str, Callable[[], Command]] = {
            "get": lambda: ("GET", key()),
            # Without a call more: the two are what most runs are made of.
            "set": lambda: (
                "SET",
                f"{begin}{int(random() * count)}",
                values[int(random() * many)],
                "EX",
                ttl,
            ),
            "mget": lambda: ("MGET", *[key() for _ in range(10)]),
            "incr": lambda: ("INCR", key()),
            "hset": lambda: ("HSET", key(), f"f{int(random() * FIELDS)}", value()),
            "hgetall": lambda: ("HGETALL", key()),
            "lpush": lambda: self._push(value()),
            "rpop": self._pop,
            "zadd": lambda: ("ZADD", key(), random(), f"member:{int(random() * MEMBERS)}"),
            "zrange": lambda: ("ZRANGE", key(), 0, 9, "WITHSCORES"),
            "xadd": lambda: ("XADD", key(), "MAXLEN", "~", keep, "*", "v", value()),
            "publish": lambda: ("PUBLISH", channel, value()),
            "ping": lambda: ("PING",),
        }
        return dealers[operation]

    def key_dealer(self, space: str) -> Callable[[], tuple[str]]:
        """What gives one key of this kind after the other, drawn at random."""
        random, begin, count = self._random.random, self._name(space, 0)[:-1], self._counts[space]
        if count > READY:
            return lambda: (f"{begin}{int(random() * count)}",)
        ready = [(self._name(space, number),) for number in range(count)]
        return lambda: ready[int(random() * count)]

    def _push(self, value: bytes) -> Command:
        number = int(self._random.random() * len(self._lists))
        name = self._name("list", number)
        if self._lists[number] >= self._keep:
            self._lists[number] = self._keep // 2
            return "LTRIM", name, 0, self._keep // 2 - 1
        self._lists[number] += 1
        return "LPUSH", name, value

    def _pop(self) -> Command:
        """Never the last value of a list: with it went the key and its TTL, and the next LPUSH
        would make one that stays. The commands are executed in the order in which they are dealt.
        """
        lists = self._lists
        number = int(self._random.random() * len(lists))
        if lists[number] < 2:
            number = max(range(len(lists)), key=lists.__getitem__)
            if lists[number] < 2:
                return "RPOP", f"{self.prefix}empty"
        lists[number] -= 1
        return "RPOP", self._name("list", number)


def _batch(commands: Iterator[Command]) -> list[Command]:
    """The next few."""
    some: list[Command] = []
    weight = 0
    for command in commands:
        some.append(command)
        weight += sum(len(word) for word in command if isinstance(word, bytes))
        if len(some) == BATCH or weight > BATCH_BYTES:
            break
    return some
