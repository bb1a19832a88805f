# SPDX-License-Identifier: Apache-2.0
"""The targets of a service's check on each backend, and the state of each VIP that follows from the results.
Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from xdpdirector.health.checks import Target
from xdpdirector.health.rise_fall import HealthReport, best
from xdpdirector.model import Address, BackendSpec, ServiceSpec
from xdpdirector.model.checks import CheckSpec


def targets(service: ServiceSpec, backend: BackendSpec) -> tuple[Target, ...]:
    """One target for each VIP that the check covers, or the backend's own address; empty without a check.

    `via: vip` covers the VIPs with a listener at the check's port. If there is none, as with a port used for
    checks only, or if the check has no port, it covers all VIPs.
    """
    check = service.check
    if check is None:
        return ()
    port = (service.check_port or 0) if check.has_port else 0
    addresses = [backend.address] if check.via == "address" else vips(service, port)
    how = service.encapsulation(backend)
    return tuple(Target(address, port, backend.address, how) for address in addresses)


def asked(check: CheckSpec) -> CheckSpec:
    """The check without its port: stating the implied port must not make it another check."""
    return check if check.port is None else check.model_copy(update={"port": None})


def verdict_on(vip: Address, reports: Mapping[Address, HealthReport]) -> HealthReport:
    """`reports`: at least one, by target address. A VIP that is not a target gets the best report of its
    family, or of all: a failure at another VIP may be specific to that one, while a server that is down fails
    everywhere."""
    if vip in reports:
        return reports[vip]
    alike = [report for address, report in reports.items() if address.version == vip.version]
    return best(alike or reports.values())


def known_before(
    asked: Sequence[Target], known: Mapping[Address, HealthReport]
) -> dict[Address, HealthReport]:
    """Reports to start the new targets with, by target address, from those known by VIP; none for VIPs that
    are new."""
    if not known:
        return {}
    return {
        target.address: known[target.address] if target.is_vip else best(known.values())
        for target in asked
        if target.address in known or not target.is_vip
    }


def vips(service: ServiceSpec, port: int) -> list[Address]:
    """The VIPs with a listener at this port, or all; in the order of the listeners, without duplicates."""
    listening = [
        listener.address
        for listener in service.listeners
        if port and listener.ports.first <= port <= listener.ports.last
    ]
    return list(dict.fromkeys(listening or service.vips))
