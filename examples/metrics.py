"""Metrics: where a command's time goes, and Prometheus scraping from a thread of its own."""

import asyncio
import os
from urllib.request import urlopen

from prometheus_client import CollectorRegistry, start_http_server

from redisutils import create_redis_pool
from redisutils.monitor.prometheus import PoolCollector

URL = os.environ.get("REDIS_URL", "embedded://")


def scrape(port: int) -> list[str]:
    """What Prometheus would read, but for the comments."""
    with urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        lines = response.read().decode().splitlines()
    return [line for line in lines if not line.startswith("#")]


async def main() -> None:
    async with create_redis_pool(url=URL) as pool:
        registry = CollectorRegistry()
        registry.register(PoolCollector(pool))
        server, thread = start_http_server(0, addr="127.0.0.1", registry=registry)

        for _ in range(20):
            await asyncio.gather(*(pool.client.incr("orders") for _ in range(50)))

        metrics = pool.metrics()
        print(f"{metrics.commands} commands, p99 {metrics.latency.p99 * 1000:.2f} ms, of which")
        for part, seconds in metrics.composition.at(99).as_dict().items():
            print(f"  {part:5} {seconds * 1000:.3f} ms")
        for slow in metrics.slow[:1]:
            print(f"slowest: {slow.command} {slow.key}, {slow.seconds * 1000:.2f} ms")

        samples = await asyncio.to_thread(scrape, server.server_port)
        print("scraped:", next(each for each in samples if "commands_total" in each))

        await asyncio.to_thread(server.shutdown)
        thread.join()
        server.server_close()
        await pool.client.delete("orders")


asyncio.run(main())
