"""What all nodes of a cluster agree on: who owns each slot, and whom each replica follows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

from ._asking import Deadline, ask
from ._cluster_view import SLOTS, NodeView, owners_of, view_of
from .server import EmbeddedServer

__all__ = ["Agreement"]


@dataclass(frozen=True)
class _Layout:
    """Each slot's owner, the epoch of each primary that answers, and each replica with whom it
    follows, by their ids.

    A node that is given a slot takes the newest epoch it knows of. If that were an older one than
    the giver's, the others would go on believing the giver for ever: hence the epochs, which are
    told later than the slots. Those without slots have one, too, and who had some may still be
    heard to claim them. Two with one epoch are not done: one of them is about to take a newer.
    """

    owners: tuple[str | None, ...] = (None,) * SLOTS
    epochs: tuple[tuple[str, int], ...] = ()
    followed: tuple[tuple[str, str], ...] = ()


class Agreement:
    """The nodes of a cluster by their ids, and what they agreed on when one last waited for it."""

    def __init__(self) -> None:
        self.nodes: Mapping[str, EmbeddedServer] = {}
        """Who has to agree, by id."""
        self._layout = _Layout()

    def add(self, nodes: Mapping[str, EmbeddedServer]) -> None:
        self.nodes = {**self.nodes, **nodes}

    def drop(self, node: EmbeddedServer) -> str | None:
        """No longer ask a node; its id, if it was asked."""
        id_ = self.id_of(node)
        self.nodes = {own: other for own, other in self.nodes.items() if own != id_}
        return id_

    def id_of(self, node: EmbeddedServer) -> str | None:
        """None for a stranger."""
        return next((id_ for id_, other in self.nodes.items() if other is node), None)

    @property
    def primaries(self) -> list[EmbeddedServer]:
        owners = set(self._layout.owners)
        return [node for id_, node in self.nodes.items() if id_ in owners]

    @property
    def replicas(self) -> list[EmbeddedServer]:
        return [self.nodes[id_] for id_, _ in self._layout.followed if id_ in self.nodes]

    def replicas_of(self, primary: EmbeddedServer) -> list[EmbeddedServer]:
        wanted = self.id_of(primary)
        return [self.nodes[id_] for id_, followed in self._layout.followed if followed == wanted]

    def owner_of(self, slot: int) -> EmbeddedServer | None:
        """None when nobody owns it."""
        owner = self._layout.owners[slot]
        return None if owner is None else self.nodes[owner]

    def slots_of(self, node: EmbeddedServer) -> list[int]:
        id_ = self.id_of(node)
        return [slot for slot, owner in enumerate(self._layout.owners) if owner == id_]

    # --- blocking ---

    def wait_until_ok(
        self,
        deadline: Deadline,
        *,
        owner: str | None = None,
        followers: int = 0,
        at_each_look: Callable[[], None] = lambda: None,
    ) -> None:
        """Wait for agreement, also on a node that is to own slots and a number of replicas."""

        def missing() -> str | None:
            at_each_look()
            found = self._agreed()
            if isinstance(found, str):
                return found
            if owner is not None and owner not in found.owners:
                return f"the node on port {self.nodes[owner].port} does not own any slot"
            if len(found.followed) < followers:
                return "replicas do not follow yet"
            self._layout = found
            return None

        deadline.wait_until(missing)

    def wait_until_known(self, deadline: Deadline) -> None:
        """Wait until each node knows all others, and sees those that answer."""
        deadline.wait_until(lambda: self._strangers(self._views(self.answering)))

    def wait_until_found(self, bus_ports: Mapping[EmbeddedServer, int], deadline: Deadline) -> None:
        """Wait until each node that answers knows the ports of these, and has reached them."""
        wanted = {self.id_of(node): (node.port, port) for node, port in bus_ports.items()}

        def missing() -> str | None:
            views = self._views(self.answering)
            for node, view in views.items():
                found = {id_: (view[id_].port, view[id_].bus_port) for id_ in view}
                if any(found.get(str(id_)) != ports for id_, ports in wanted.items()):
                    return f"the node on port {node.port} does not know the new ports"
            return self._strangers(views)

        deadline.wait_until(missing)

    @property
    def answering(self) -> list[EmbeddedServer]:
        """The nodes that run and are not paused, as of now."""
        return [node for node in self.nodes.values() if node.answering]

    def _agreed(self) -> _Layout | str:
        """The layout on which all nodes that answer agree, or what is against it."""
        answering = self.answering
        for node in answering:
            if "cluster_state:ok" not in ask(node, "CLUSTER", "INFO"):
                return f"the cluster is not ok for the node on port {node.port}"
        views = self._views(answering)
        strangers = self._strangers(views)
        if strangers:
            return strangers
        heard = {id_ for id_, node in self.nodes.items() if node in views}
        layouts = {_layout_of(view, heard) for view in views.values()}
        if len(layouts) != 1:
            return "the nodes do not agree" if layouts else "no node answers"
        layout = layouts.pop()
        if len({epoch for _, epoch in layout.epochs}) < len(layout.epochs):
            return "two primaries have the same epoch"
        for owner in set(layout.owners):
            if owner is not None and self.nodes[owner] not in views:
                return f"the node on port {self.nodes[owner].port} owns slots and does not answer"
        return layout

    def _views(
        self, nodes: Sequence[EmbeddedServer]
    ) -> Mapping[EmbeddedServer, Mapping[str, NodeView]]:
        return {node: view_of(ask(node, "CLUSTER", "NODES")) for node in nodes}

    def _strangers(self, views: Mapping[EmbeddedServer, Mapping[str, NodeView]]) -> str | None:
        """Which node does not know all, or does not see one that answers."""
        seen_well = {id_ for id_, node in self.nodes.items() if node in views}
        for node, view in views.items():
            if view.keys() != self.nodes.keys():
                return f"the node on port {node.port} does not know all others"
            for id_ in seen_well:
                if not view[id_].connected or view[id_].flags & {"handshake", "fail?", "fail"}:
                    unseen = self.nodes[id_].port
                    return f"the node on port {node.port} does not see that on port {unseen}"
        return None


def _layout_of(view: Mapping[str, NodeView], heard: Collection[str]) -> _Layout:
    followed = sorted((node.id, node.primary) for node in view.values() if node.primary)
    epochs = sorted((id_, view[id_].epoch) for id_ in heard if not view[id_].primary)
    return _Layout(owners_of(view.values()), tuple(epochs), tuple(followed))
