# SPDX-License-Identifier: Apache-2.0
"""What is reported of the network: findings and their evidence, and the interface to ask for them. No behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Literal, Protocol

from xdpdirector.lan.vip_probe import Presence
from xdpdirector.model import Address
from xdpdirector.model.fields import Frozen, HostAddress


class LanSource(Protocol):
    """Implemented by `xdpdirector.lan.monitor.Lan`."""

    @property
    def findings(self) -> tuple[Finding, ...]: ...

    @property
    def mac_changes(self) -> Mapping[Address, int]:
        """Number of MAC changes by backend address."""

    def view(self) -> LanView: ...


class FindingKind(StrEnum):
    """`blind`: the network cannot be probed. `duplicate-*`: two machines claim one address."""

    DUPLICATE_VIP = "duplicate-vip"
    VIP_ANSWERED = "vip-answered-by-backend"
    VIP_ANNOUNCED = "vip-announced-by-backend"
    VIP_ANSWERED_HERE = "vip-answered-by-own-interface"
    VIP_MISSING = "vip-missing-on-backend"
    BACKEND_UNREACHABLE = "backend-unreachable"
    DUPLICATE_BACKEND = "duplicate-backend-address"
    SHARED_MAC = "shared-mac"
    REPLIES_DROPPED = "replies-dropped-here"
    BACKEND_ROUTES = "backend-is-router"
    BLIND = "blind"


class Finding(Frozen):
    """Something wrong: description (`text`), `evidence`, `remedy`.

    `subject`: the VIP, backend (SERVICE/BACKEND) or interface concerned.
    """

    kind: FindingKind
    subject: str
    text: str
    evidence: str
    remedy: str
    since: datetime
    vip: HostAddress | None = None
    backends: tuple[str, ...] = ()
    mac: str | None = None
    interface: str | None = None


class NeighbourView(Frozen):
    """A backend's address on the network. `mac_changes`: since the daemon started."""

    address: HostAddress
    backends: tuple[str, ...]
    state: Literal["neighbour", "local", "unresolved", "off-link"]
    mac: str | None
    interface: str | None
    why: str
    mac_changes: int
    mac_changed_at: datetime | None


class PresenceView(Frozen):
    """Whether the machine at a backend's address has a VIP, with evidence."""

    address: HostAddress
    backends: tuple[str, ...]
    vip: HostAddress
    presence: Presence
    evidence: str
    asked_at: datetime


class LanView(Frozen):
    """`probing`: whether the network is being probed. `vips`: interfaces on which other claims are searched
    for, by VIP; empty for a VIP that is not on this host."""

    probing: bool
    findings: tuple[Finding, ...]
    vips: dict[str, tuple[str, ...]]
    neighbours: tuple[NeighbourView, ...]
    presence: tuple[PresenceView, ...]
