"""A subscriber who is cut off."""

from __future__ import annotations

import asyncio

from benchmarks.faults.clients import Heard
from benchmarks.faults.stage import Figures, Stage, until
from redisutils.testing import FaultProxy

BUDGET = 5.0
BEFORE = 0.5
DOWN = 0.5
PATIENCE = 8.0
"""Seconds after which nobody waits for the subscriber to come back any more."""
AFTER = 0.5
_SPACING = 0.01
"""Seconds between messages."""


def _cut(proxy: FaultProxy) -> None:
    proxy.refuse()
    proxy.reset()


async def cut_off(stage: Stage) -> Figures:
    """Numbered messages to one subscriber, whose connection is reset and who cannot connect for
    a while."""
    loop = asyncio.get_running_loop()
    heard = Heard()
    published = 0
    with stage.admin() as admin:
        async with stage.client(BUDGET) as client:
            listening = asyncio.create_task(client.listen("trades", heard))
            if not await until(lambda: bool(admin.pubsub_numsub("trades")[0][1]), PATIENCE):
                raise RuntimeError("the subscription never reached the server")

            async def publish() -> None:
                nonlocal published
                while True:
                    admin.publish("trades", published)
                    published += 1
                    await asyncio.sleep(_SPACING)

            publishing = asyncio.create_task(publish())
            await asyncio.sleep(BEFORE)
            await stage.network.apply(_cut)
            await asyncio.sleep(DOWN)
            await stage.network.apply(lambda proxy: proxy.restore())
            restored, first = loop.time(), published
            back = await until(lambda: any(n >= first for n in heard.numbers), PATIENCE)
            took = loop.time() - restored
            await asyncio.sleep(AFTER)
            publishing.cancel()
            await asyncio.sleep(0.1)
            died = listening.done()
            listening.cancel()
            await asyncio.wait({listening, publishing}, timeout=1.0)
    return {
        "back": took if back else None,
        "told": float(bool(heard.signs) or died),
        "missed": published - len(heard.numbers),
        "published": published,
        "errors": sum("confirmation" not in sign for sign in heard.signs),
    }
