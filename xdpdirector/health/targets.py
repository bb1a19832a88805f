# SPDX-License-Identifier: Apache-2.0
"""Whom a service's check asks on each backend, and what the answers say of each VIP. Pure: from the wishes and the
answers alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdpdirector.health.checks import Target
from xdpdirector.health.rise_fall import HealthReport, best
from xdpdirector.model import Address, BackendSpec, ServiceSpec
from xdpdirector.model.checks import CheckSpec


def targets(service: ServiceSpec, backend: BackendSpec) -> tuple[Target, ...]:
    """One for each VIP that the check concerns, or the backend's own address; none without a check.

    With `via: vip` it concerns the VIPs that have a listener at the check's port; when none has, as with a port for
    health only, or when the check has no port, all VIPs.
    """
    check = service.check
    if check is None:
        return ()
    port = (service.check_port or 0) if check.has_port else 0
    addresses = [backend.address] if check.via == "address" else vips(service, port)
    return tuple(Target(address, port, backend.address) for address in addresses)


def asked(check: CheckSpec) -> CheckSpec:
    """What is asked, wherever that is: a port that was implied and is said now makes no other check."""
    return check if check.port is None else check.model_copy(update={"port": None})


def verdict_on(vip: Address, reports: Mapping[Address, HealthReport]) -> HealthReport:
    """`reports`: one at least, by the address that was asked. A VIP that is not asked is as well as the best of its
    family that is, or of all: what is lacking elsewhere need not be lacking here, and a server that is down is so
    everywhere."""
    if vip in reports:
        return reports[vip]
    alike = [report for address, report in reports.items() if address.version == vip.version]
    return best(alike or reports.values())


def known_before(
    asked: Sequence[Target], known: Mapping[Address, HealthReport]
) -> dict[Address, HealthReport]:
    """What is known of those that are asked from now on, by their addresses, from what was known by VIP: nothing of
    VIPs that are new."""
    if not known:
        return {}
    return {
        target.address: known[target.address] if target.is_vip else best(known.values())
        for target in asked
        if target.address in known or not target.is_vip
    }


def vips(service: ServiceSpec, port: int) -> list[Address]:
    """In the listeners' order, each once."""
    listening = [
        listener.address
        for listener in service.listeners
        if port and listener.ports.first <= port <= listener.ports.last
    ]
    return list(dict.fromkeys(listening or service.vips))
