"""Where a server of several is: host and port, and how they look from here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["Address", "AddressMap"]


class Address(NamedTuple):
    """A host (a name, an IPv4 or an IPv6 address, without brackets) and a port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


AddressMap = Mapping[Address, Address]
"""For NAT and containers: where each announced address is to be reached from here. An address
that is not in it is taken as it is."""
