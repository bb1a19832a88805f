# SPDX-License-Identifier: Apache-2.0
"""Builds the views of the network's state for API and CLI. Probes and changes nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime

from xdpdirector.lan.expected import Scene, Target
from xdpdirector.lan.mac_history import Macs
from xdpdirector.lan.types import Finding, LanView, NeighbourView, PresenceView
from xdpdirector.lan.vip_probe import Verdict
from xdpdirector.model import Address

Known = Mapping[tuple[Address, Address], tuple[Verdict, datetime]]


def report(now: Scene, findings: tuple[Finding, ...], macs: Macs, known: Known, *, probing: bool) -> LanView:
    """`known`: by (backend address, VIP)."""
    return LanView(
        probing=probing,
        findings=findings,
        vips={str(vip): now.held.get(vip, ()) for vip in sorted(now.vips, key=str)},
        neighbours=tuple(_neighbour(target, macs) for target in now.targets.values()),
        presence=tuple(_presences(now, known)),
    )


def _neighbour(target: Target, macs: Macs) -> NeighbourView:
    route, known = target.route, macs.of(target.address)
    return NeighbourView(
        address=target.address,
        backends=target.names,
        state=route.kind,
        mac=route.mac.hex(":") if route.mac else None,
        interface=route.interface or None,
        why=route.why,
        mac_changes=known.changes if known else 0,
        mac_changed_at=known.at if known else None,
    )


def _presences(now: Scene, known: Known) -> Iterable[PresenceView]:
    for (address, vip), (verdict, at) in known.items():
        if address in now.targets and vip in now.targets[address].vips:
            yield PresenceView(
                address=address,
                backends=now.targets[address].names,
                vip=vip,
                presence=verdict.presence,
                evidence=verdict.evidence,
                asked_at=at,
            )
