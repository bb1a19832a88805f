# SPDX-License-Identifier: Apache-2.0
"""Tunnels to backends in other networks: the way there, what it leaves for packets, and the MSS for that."""

from __future__ import annotations

from collections.abc import Iterator

from xdpdirector.doctor.finding import Finding, note, ok, warning
from xdpdirector.doctor.subject import Subject
from xdpdirector.model import Address, ServiceSpec
from xdpdirector.model.tunnel import Forward, overhead, segment_size

ETHERNET = 1500
IPV6_LEAST = 1280  # RFC 8200, 5
NAMED = 3


def look(subject: Subject) -> Iterator[Finding]:
    services = subject.configuration.services if subject.configuration else {}
    for name, spec in services.items():
        for (forward, version, mtu), addresses in _ways(subject, spec).items():
            yield _judged(name, spec, forward, version, mtu, addresses)


def _ways(subject: Subject, spec: ServiceSpec) -> dict[tuple[Forward, int, int], list[Address]]:
    """Addresses of backends by their kind of tunnel, IP version, and the MTU of the way there."""
    found: dict[tuple[Forward, int, int], list[Address]] = {}
    for backend in spec.backends.values():
        forward = spec.forward_to(backend)
        if forward != "direct":
            mtu = subject.machine.mtu_to(backend.address)
            found.setdefault((forward, backend.address.version, mtu), []).append(backend.address)
    return found


def _judged(
    name: str, spec: ServiceSpec, forward: Forward, version: int, mtu: int, addresses: list[Address]
) -> Finding:
    where = ", ".join(map(str, addresses[:NAMED])) + (" ..." if len(addresses) > NAMED else "")
    if not mtu:
        return warning(
            f"no route leads to {where}, backends of '{name}'", "netlink: RTM_GETROUTE", "ip route add"
        )
    longest, versions = mtu - overhead(forward, version), {vip.version for vip in spec.vips}
    evidence = f"the MTU of the way to {where} is {mtu}, of which {forward} takes {mtu - longest}"
    if longest < IPV6_LEAST and 6 in versions:
        return warning(
            f"'{name}': packets of IPv6 clients have no room in its tunnels, which take {longest} bytes",
            evidence,
            f"an MTU of {IPV6_LEAST + mtu - longest} or more on that way",
        )
    if longest >= ETHERNET:
        return ok(f"'{name}': its tunnels take packets of {longest} bytes", evidence)
    sizes = ", ".join(
        f"{segment_size(mtu, forward, version, inner)} for IPv{inner} clients" for inner in sorted(versions)
    )
    return note(
        f"'{name}': its tunnels take packets of {longest} bytes; senders of longer ones are told by ICMP",
        evidence,
        f"a larger MTU on that way, or an MSS of {sizes} on the backends (ip route change default via GATEWAY "
        "advmss)",
    )
