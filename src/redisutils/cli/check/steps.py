"""The order of the steps, and what each stands on."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from redisutils.cli.check.case import Case
from redisutils.cli.check.clients import check_clients
from redisutils.cli.check.clock import check_clock
from redisutils.cli.check.finding import Say
from redisutils.cli.check.latency import check_latency
from redisutils.cli.check.login import check_login
from redisutils.cli.check.memory import check_memory
from redisutils.cli.check.names import check_name
from redisutils.cli.check.nodes import check_nodes
from redisutils.cli.check.persistence import check_persistence
from redisutils.cli.check.port import check_port
from redisutils.cli.check.process import check_process
from redisutils.cli.check.replication import check_replication
from redisutils.cli.check.rights import check_rights
from redisutils.cli.check.seeds import check_seeds
from redisutils.cli.check.server import check_server
from redisutils.cli.check.settings import check_settings
from redisutils.cli.check.slowlog import check_slowlog
from redisutils.cli.check.tls import check_tls
from redisutils.cli.check.topology import check_topology

__all__ = ["STEPS", "Step"]


def _always(case: Case) -> bool:
    return True


@dataclass(frozen=True, slots=True)
class Step:
    """One of them."""

    name: str
    run: Callable[[Case, Say], Awaitable[None]]
    """Tells what it finds; raises Stop when what stands on it cannot be looked at."""
    after: str | None = None
    """The step that it stands on."""
    concerns: Callable[[Case], bool] = _always
    """Asked after that step whether there is anything to look at; else it is left out."""
    needs_info: bool = False
    """Whether it judges by INFO."""


STEPS: Final = (
    Step("configuration", check_settings),
    Step("seeds", check_seeds, "configuration", lambda case: case.config.mode != "standalone"),
    Step("name", check_name, "seeds", lambda case: not case.config.embedded),
    Step("port", check_port, "name", lambda case: case.networked),
    Step("tls", check_tls, "port", lambda case: case.networked and case.config.tls_enabled),
    Step("login", check_login, "tls"),
    Step("server", check_server, "login"),
    Step("topology", check_topology, "server", lambda case: case.many is not None),
    Step("rights", check_rights, "server"),
    Step("memory", check_memory, "server", needs_info=True),
    Step("persistence", check_persistence, "server", needs_info=True),
    Step("clients", check_clients, "server", needs_info=True),
    Step("replication", check_replication, "server", needs_info=True),
    Step("slowlog", check_slowlog, "server"),
    Step("latency", check_latency, "server"),
    Step("clock", check_clock, "server"),
    Step("nodes", check_nodes, "topology", lambda case: case.many is not None),
    Step("process", check_process),
)
