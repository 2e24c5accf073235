"""A sentinel that says what a test wants it to: a tiny server that speaks RESP2."""

from __future__ import annotations

import asyncio
from typing import Any, Self

import hiredis

from redisutils.address import Address

__all__ = ["Liar"]


class Liar:
    """A sentinel of the test's own on 127.0.0.1.

    Args:
        master: the name that it knows.
        says: where the primary is, by its word.
        epoch: of which configuration.
    """

    def __init__(self, master: str, says: Address, epoch: int) -> None:
        self.master = master
        self.says = says
        self.epoch = epoch
        self.failing_over = False
        """Whether it says that a failover is on."""
        self.lists: list[Address] = []
        """The other sentinels of which it tells."""
        self.asked = 0
        """How often it was asked where the primary is."""
        self.listed = 0
        """How often it was asked for the other sentinels."""
        self._listeners: set[asyncio.StreamWriter] = set()
        self._writers: set[asyncio.StreamWriter] = set()

    @property
    def place(self) -> tuple[str, int]:
        host, port = self._server.sockets[0].getsockname()
        return host, port

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *exc: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    def tell(self, channel: str, text: str) -> int:
        """Publish to those who listen. Returns how many that are."""
        for writer in self._listeners:
            writer.write(_encode(["message", channel, text]))
        return len(self._listeners)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        parser = hiredis.Reader(encoding="utf-8")
        try:
            while data := await reader.read(65536):
                parser.feed(data)
                while command := parser.gets():
                    self._answer(command, writer)
        except ConnectionError:
            pass
        finally:
            self._listeners.discard(writer)
            writer.close()

    def _answer(self, command: list[str], writer: asyncio.StreamWriter) -> None:
        match [word.upper() for word in command[:2]]:
            case ["SUBSCRIBE", *_]:
                self._listeners.add(writer)
                for number, channel in enumerate(command[1:], 1):
                    writer.write(_encode(["subscribe", channel, number]))
            case ["SENTINEL", "GET-MASTER-ADDR-BY-NAME"]:
                self.asked += 1
                writer.write(_encode([self.says.host, str(self.says.port)]))
            case ["SENTINEL", "MASTER"]:
                flags = "master,failover_in_progress" if self.failing_over else "master"
                told = {"flags": flags, "config-epoch": self.epoch, "num-other-sentinels": 2}
                writer.write(_encode([str(word) for pair in told.items() for word in pair]))
            case ["SENTINEL", "MYID"]:
                writer.write(_encode(f"{id(self):040x}"))
            case ["SENTINEL", "SENTINELS"]:
                self.listed += 1
                writer.write(
                    _encode(
                        [
                            ["ip", each.host, "port", str(each.port), "runid", f"made up {each}"]
                            for each in self.lists
                        ]
                    )
                )
            case ["SENTINEL", _]:
                writer.write(_encode([]))
            case ["PING" | "AUTH", *_]:
                writer.write(b"+OK\r\n")
            case [name, *_]:
                writer.write(f"-ERR unknown command '{name}'\r\n".encode())


def _encode(value: Any) -> bytes:
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(_encode, value))
    if isinstance(value, int):
        return b":%d\r\n" % value
    text = value.encode()
    return b"$%d\r\n%b\r\n" % (len(text), text)
