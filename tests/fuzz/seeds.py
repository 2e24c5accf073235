"""Where the fuzzer begins: short programs and URLs."""

from __future__ import annotations

import random

from .wire import FRAMES, STEPS

__all__ = ["URLS", "programs"]

_STEP = {name: number for number, name in enumerate(STEPS)}

URLS = (
    "redis://localhost",
    "rediss://user:secret@[::1]:6380/3?decode_responses=true",
    "unix:///run/redis.sock?db=2&command_timeout=0.5",
    "redis://:%70ass@h:0/0?pool_max_size=1",
    "embedded://",
)
"""Of each form that there is."""


def programs(seed: int, count: int) -> list[bytes]:
    """So many programs, the same for the same seed: callers ask, and mostly what is right comes."""
    chance = random.Random(seed)
    return [_program(chance) for _ in range(count)]


def _program(chance: random.Random) -> bytes:
    steps = [bytes([chance.randrange(2)])]
    for _ in range(chance.randrange(1, 30)):
        name = chance.choices(STEPS, (6, 2, 3, 2, 4, 12, 2, 2, 0.2))[0]
        step = [_STEP[name]]
        if name in ("ask", "cancel", "hang up"):
            step += [chance.randrange(256)]
        elif name == "crossed":
            step += [chance.randrange(256) for _ in range(3)]
        elif name in ("batch", "again"):
            step += [chance.randrange(2), chance.randrange(4)][:: chance.choice((1, -1))]
        elif name == "frame":
            step += [chance.randrange(len(FRAMES)), chance.randrange(40)]
        elif name == "bytes":
            piece = _piece(chance)
            step += [len(piece) - 1, *piece]
        steps.append(bytes(step))
    return b"".join(steps)


def _piece(chance: random.Random) -> bytes:
    """One to 64 bytes: parts of frames, with something wrong in every third."""
    data = bytearray(b"".join(chance.choices(FRAMES, k=chance.randrange(1, 4)))[:64])
    if not chance.randrange(3):
        data[chance.randrange(len(data))] = chance.randrange(256)
    start = chance.randrange(len(data)) if not chance.randrange(3) else 0
    return bytes(data[start:])
