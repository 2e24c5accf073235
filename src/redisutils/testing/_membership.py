"""Who belongs to a cluster: nodes are introduced, forgotten, and go elsewhere. All of it blocks."""

from __future__ import annotations

from collections.abc import Sequence

import redis

from ._asking import ask, ask_all
from .server import EmbeddedServer

__all__ = ["forget", "introduce", "meet", "readdress"]


def meet(node: EmbeddedServer, other: EmbeddedServer) -> None:
    """Introduce two nodes to each other."""
    ask(node, "CLUSTER", "MEET", other.host, other.port, str(other.process.bus_port))


def introduce(node: EmbeddedServer, others: Sequence[EmbeddedServer]) -> None:
    """Introduce a new node to all others."""
    # An epoch that nobody has need not be sorted out by elections; only one who is alone is told.
    ask(node, "CLUSTER", "SET-CONFIG-EPOCH", 1 + max(map(_epoch, others)))
    for other in others:
        meet(node, other)


def forget(id_: str, nodes: Sequence[EmbeddedServer]) -> None:
    """Let ``nodes`` forget another. Within a minute they do not learn of it again by gossip."""
    for node in nodes:
        try:
            ask(node, "CLUSTER", "FORGET", id_)
        except redis.ResponseError as error:
            if "Unknown node" not in str(error):  # Another one has told it already.
                raise


def readdress(node: EmbeddedServer, port: int) -> None:
    """Let a node listen at another port, now and when it starts again, and end its connections."""
    ask_all(
        node,
        # Redis 7.0 goes on telling others its old port unless it is told what to tell.
        ("CONFIG", "SET", "port", port, "cluster-announce-port", port),
        ("CONFIG", "REWRITE"),
        ("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
        ("CLIENT", "KILL", "TYPE", "pubsub", "SKIPME", "yes"),
    )
    node.process.port = port


def _epoch(node: EmbeddedServer) -> int:
    """The newest epoch that a node knows of."""
    lines = ask(node, "CLUSTER", "INFO").splitlines()
    told = dict(line.split(":", 1) for line in lines if ":" in line)
    return int(told["cluster_current_epoch"])
