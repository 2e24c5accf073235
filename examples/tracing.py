"""Tracing: each command is a span within the request that issued it, with its retries.

Needs OpenTelemetry's SDK: pip install "redisutils[otel]" opentelemetry-sdk
"""

import asyncio
import os
from typing import Any

try:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
except ImportError:
    raise SystemExit('This needs: pip install "redisutils[otel]" opentelemetry-sdk') from None
from redis import ResponseError

from redisutils import create_redis_pool
from redisutils.monitor.otel import instrument

URL = os.environ.get("REDIS_URL", "embedded://")


async def main() -> None:
    # A program has an exporter to a collector in the place of this one.
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    tracer = provider.get_tracer("orders")

    async with create_redis_pool(url=URL) as pool:
        with instrument(pool, tracer_provider=provider):
            with tracer.start_as_current_span("place order"):
                await pool.client.hset("order:1", "state", "new")
                pipe: Any = pool.client.pipeline()
                await pipe.incr("count").incr("volume").execute()
            try:
                await pool.client.lpush("order:1", "no list")
            except ResponseError:
                pass
            await asyncio.sleep(0)  # a span ends in the turn after its answer
        await pool.client.delete("order:1", "count", "volume")

    for span in spans.get_finished_spans():
        has = span.attributes or {}
        within = " (within a request)" if span.parent else ""
        failed = f" failed: {has['error.type']!s}" if "error.type" in has else ""
        print(f"{span.kind.name} {span.name}{within}{failed}")


asyncio.run(main())
