"""From a plan to what stands behind a pool."""

from __future__ import annotations

from redisutils.connection.options import ConnectOptions
from redisutils.pool.settings import PoolSettings
from redisutils.topology.plan import ClusterPlan, Plan, SentinelPlan
from redisutils.topology.server import Server
from redisutils.topology.standalone import Standalone

__all__ = ["open_server"]


def open_server(options: ConnectOptions, settings: PoolSettings, plan: Plan | None) -> Server:
    """What a pool stands on, in the event loop that runs. Connects at first use.

    Args:
        options: how to connect; of many servers, to each but for its place.
        plan: many servers; None for one.
    """
    if isinstance(plan, ClusterPlan):
        # What it needs takes some milliseconds to import: only for those who have one.
        from redisutils.topology.cluster.cluster import Cluster

        return Cluster(options, settings, plan)
    if isinstance(plan, SentinelPlan):
        from redisutils.topology.sentinel.server import SentinelServer

        return SentinelServer(options, settings, plan)
    return Standalone(options, settings)
