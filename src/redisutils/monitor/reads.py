"""Exported metrics of reads that replicas may answer: all 0 where all is read from the primary."""

from __future__ import annotations

from typing import Final

from redisutils.monitor.described import Described
from redisutils.monitor.samples import one

__all__ = ["READS"]

READS: Final = (
    Described(
        "redisutils_reads_from_replicas",
        "counter",
        "",
        "Reads that were sent to a replica; a pipeline is one.",
        (),
        one(lambda s: s.reads.from_replicas),
        "redisutils.reads.from_replicas",
    ),
    Described(
        "redisutils_reads_past_lagging_replicas",
        "counter",
        "",
        "Reads for which a replica was left out, being further behind than REDIS_READ_MAX_LAG_"
        "SECONDS.",
        (),
        one(lambda s: s.reads.lagging),
        "redisutils.reads.past_lagging_replicas",
    ),
    Described(
        "redisutils_reads_moved_on",
        "counter",
        "",
        "Reads that went on at another server, since the first was lost, silent, or refused them.",
        (),
        one(lambda s: s.reads.moved_on),
        "redisutils.reads.moved_on",
    ),
    Described(
        "redisutils_reads_hedged",
        "counter",
        "",
        "Reads of which another server was asked as well, since the first took long.",
        (),
        one(lambda s: s.reads.hedged),
        "redisutils.reads.hedged",
    ),
    Described(
        "redisutils_reads_hedges_won",
        "counter",
        "",
        "Hedged reads that the other server was the first to answer.",
        (),
        one(lambda s: s.reads.hedges_won),
        "redisutils.reads.hedges_won",
    ),
)
