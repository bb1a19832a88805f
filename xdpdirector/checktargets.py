# SPDX-License-Identifier: Apache-2.0
"""Whom a service's check asks on each backend. Pure: from the wishes alone."""

from __future__ import annotations

from xdpdirector.checks import Target
from xdpdirector.model import Address, BackendSpec, ServiceSpec


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


def vips(service: ServiceSpec, port: int) -> list[Address]:
    """In the listeners' order, each once."""
    listening = [
        listener.address
        for listener in service.listeners
        if port and listener.ports.first <= port <= listener.ports.last
    ]
    return list(dict.fromkeys(listening or (listener.address for listener in service.listeners)))
