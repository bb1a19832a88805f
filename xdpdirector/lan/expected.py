# SPDX-License-Identifier: Apache-2.0
"""The expected state of the network: which machine should have which addresses, and how this host reaches
them. Pure.

Computed anew for each probe and judgement, from the configured services, the routes to their backends and
this host's interfaces. What follows from the services alone is kept with them: it is looked at several times a
second, and thousands of services take long.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address

from xdpdirector.lan.frame_builder import NOBODY
from xdpdirector.model import Address, AdminState, ServiceSpec
from xdpdirector.net.interfaces import Interface
from xdpdirector.net.next_hop import Route
from xdpdirector.net.own_macs import covered
from xdpdirector.state.edits import Services, touched

NAMED = 3  # names of one machine that a sentence lists


@dataclass(frozen=True)
class Target:
    """The machine behind one address. `names`: its backends (SERVICE/BACKEND). `vips`: the VIPs that it must
    have, each with a TCP port to probe, None if there is none. `is_wanted`: not all of its backends are in
    maintenance. `is_router`: all of them are configured as routers of clients' packets."""

    address: Address
    route: Route
    names: tuple[str, ...]
    vips: Mapping[Address, int | None]
    is_wanted: bool
    is_router: bool = False

    @property
    def is_lost(self) -> bool:
        """True if no frame can reach a machine that is wanted."""
        return self.is_wanted and self.route.kind in ("unresolved", "off-link")

    def __str__(self) -> str:
        more = f" and {len(self.names) - NAMED} more" if len(self.names) > NAMED else ""
        noun = "backend" if len(self.names) == 1 else "backends"
        return f"{noun} {', '.join(self.names[:NAMED])}{more} ({self.address})"


@dataclass(frozen=True)
class Scene:
    """`held`: the VIPs on this host, each with the interfaces on whose networks other machines may claim it."""

    targets: Mapping[Address, Target]
    links: Mapping[str, Interface]
    held: Mapping[Address, tuple[str, ...]]
    vips: frozenset[Address] = field(default_factory=frozenset)
    covered: frozenset[str] = frozenset()
    """Interfaces whose frames the packet program receives."""
    gateways: Mapping[Address, bytes | None] = field(default_factory=dict)
    """Gateways of this host, with their MACs if known."""

    @property
    def own_macs(self) -> set[bytes]:
        return {link.mac for link in self.links.values() if link.mac}

    def uncovered(self, mac: bytes) -> Interface | None:
        """The interface of this host with that MAC, if the packet program does not receive its frames."""
        own = [link for link in self.links.values() if link.mac == mac]
        return own[0] if own and not any(link.name in self.covered for link in own) else None

    def source(self, interface: str, target: Address) -> Address | None:
        """The source address for probes: no VIP, of the target's family, and of its network if there is one."""
        own = [
            network
            for network in (self.links[interface].networks if interface in self.links else ())
            if network.version == target.version and network.ip not in self.vips
        ]
        own.sort(key=lambda network: (target not in network.network, network.ip.is_link_local))
        return own[0].ip if own else None

    def by_mac(self, mac: bytes) -> list[Target]:
        """The target with this MAC."""
        return [target for target in self.targets.values() if target.route.mac == mac]


class Machine:
    """What the services say of the machine at an address that direct routing uses; see `Target`."""

    __slots__ = ("is_router", "is_wanted", "names", "vips")

    def __init__(self) -> None:
        self.names: list[str] = []
        self.vips: dict[Address, int | None] = {}
        self.is_wanted, self.is_router = False, True


@dataclass(frozen=True)
class Machines:
    """`of`: the services that say so; `vips`: all of theirs."""

    of: Services
    by_address: Mapping[Address, Machine]
    vips: frozenset[Address]


def scene(
    machines: Machines,
    route: Callable[[Address], Route],
    links: Iterable[Interface],
    interfaces: Collection[str],
    gateways: Mapping[Address, bytes | None] | None = None,
) -> Scene:
    """`interfaces`: names of those with the packet program."""
    by_name = {link.name: link for link in links}
    vips = machines.vips
    return Scene(
        targets=_targets(machines, route),
        links=by_name,
        held={vip: _places(vip, by_name, interfaces) for vip in vips if _stands(vip, by_name)},
        vips=vips,
        covered=frozenset(link.name for link in covered(by_name.values(), interfaces)),
        gateways=gateways or {},
    )


def probe_source(vip: Address, own: Address | None) -> Address | None:
    """The sender address for finding who has a VIP. ARP probes have none, so that no receiver updates its
    cache."""
    return NOBODY if isinstance(vip, IPv4Address) else own


def _stands(vip: Address, links: Mapping[str, Interface]) -> bool:
    return any(network.ip == vip for link in links.values() for network in link.networks)


def _places(vip: Address, links: Mapping[str, Interface], interfaces: Collection[str]) -> tuple[str, ...]:
    """Interfaces of its network: with the VIP itself, or with the packet program. A VIP on `lo` is not probed
    for."""
    return tuple(
        link.name
        for link in links.values()
        if link.mac and link.up and link.reaches(vip) and (link.name in interfaces or _has(link, vip))
    )


def _has(link: Interface, vip: Address) -> bool:
    return any(network.ip == vip for network in link.networks)


def machines_of(services: Services, before: Machines | None = None) -> Machines:
    """`before`: of earlier services. Most changes, of weights for example, say nothing else of any machine."""
    if before and not _differ(before.of, services):
        return replace(before, of=services)
    found: dict[Address, Machine] = {}
    vips: set[Address] = set()
    for name, spec in services.items():
        ports = [
            (each.address, each.ports.first if each.is_exact and each.protocol == "tcp" else None)
            for each in spec.listeners
        ]
        vips.update(vip for vip, _ in ports)
        for key, backend in spec.backends.items():
            if spec.forward_to(backend) != "direct":
                continue  # its frames go to a gateway
            machine = found.get(backend.address)
            if machine is None:
                machine = found[backend.address] = Machine()
            machine.names.append(f"{name}/{key}")
            for vip, port in ports:
                if machine.vips.setdefault(vip, port) is None and port:
                    machine.vips[vip] = port
            machine.is_wanted |= backend.admin is not AdminState.MAINTENANCE
            machine.is_router &= backend.router
    return Machines(services, found, frozenset(vips))


def _differ(before: Services, after: Services) -> bool:
    """Whether they say different things of some machine."""
    return any(
        name not in before or name not in after or _said(before[name]) != _said(after[name])
        for name in touched(before, after)
    )


def _said(spec: ServiceSpec) -> tuple[object, ...]:
    """Of machines."""
    return spec.listeners, {
        key: (
            backend.address,
            spec.forward_to(backend),
            backend.admin is AdminState.MAINTENANCE,
            backend.router,
        )
        for key, backend in spec.backends.items()
    }


def _targets(machines: Machines, route: Callable[[Address], Route]) -> dict[Address, Target]:
    return {
        address: Target(
            address,
            route(address),
            tuple(machine.names),
            machine.vips,
            is_wanted=machine.is_wanted,
            is_router=machine.is_router,
        )
        for address, machine in machines.by_address.items()
    }
