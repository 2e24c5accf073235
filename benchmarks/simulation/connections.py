"""How many connections a fleet opens, and what they cost the servers. Sums, no chance."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Fleet:
    """Pods, each with so many processes that have a pool.

    ``lanes`` counts the default one. ``checkouts`` are connections of one's own that are in use at
    once in a process, on each node: WATCH, blocking reads, subscriptions.
    """

    pods: int
    processes: int = 1
    lanes: int = 1
    checkouts: float = 0.0
    surge: float = 0.25
    """By how much there are more pods while a deployment rolls: Kubernetes' default maxSurge."""

    @property
    def of_process(self) -> float:
        """Connections of a process to one node that it uses."""
        return self.lanes + self.checkouts

    @property
    def at_node(self) -> float:
        """Connections that each primary sees."""
        return self.pods * self.processes * self.of_process

    @property
    def at_node_rolling(self) -> float:
        """The same at the worst moment of a deployment: old pods still have theirs."""
        return self.at_node * (1 + self.surge)

    def in_pod(self, nodes: int) -> float:
        """Sockets, and so file descriptors, of a pod that uses all nodes."""
        return self.processes * self.of_process * nodes


def maxclients_for(connections: float, *, replicas: int, spare: float = 0.3) -> int:
    """A setting with room for replicas, monitoring and people, in steps of 500."""
    wanted = connections * (1 + spare) + replicas + 50
    return int(-(-wanted // 500) * 500)


def descriptors_for(maxclients: int) -> int:
    """The server's limit of open files: it keeps 32 for itself beyond ``maxclients``."""
    return maxclients + 32
