# SPDX-License-Identifier: Apache-2.0
"""The kernel's network settings: which ones matter to a director, and which ones people change in vain."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xdpdirector.doctor.finding import Finding, error, note, ok, warning
from xdpdirector.doctor.subject import Subject
from xdpdirector.net import own_source_drops
from xdpdirector.net.own_source_drops import dropping

ROOT = Path("/proc/sys/net")
NEARLY_FULL = 0.8
CABLES = "xck"  # of checks: `checkleg.prefix`


def look(subject: Subject) -> Iterator[Finding]:
    yield from _neighbours(subject)
    yield from _ping(subject)
    yield from _quiet(subject)
    yield from _flux(subject)
    yield from _ipv6(subject)
    yield from _martians(subject)
    yield from _own_source(subject)
    yield from _in_vain(subject)


def _neighbours(subject: Subject) -> Iterator[Finding]:
    """A full neighbour table drops entries as fast as they are made (`gc_thresh3`, arp(7))."""
    for version, (entries, most) in sorted(subject.machine.neighbour_tables().items()):
        family = f"ipv{version}"
        evidence = (
            f"netlink: gc_thresh3 of {family} is {most:,}; {entries:,} entries, of all network namespaces"
        )
        wanted = 1 << (4 * max(subject.backends, entries)).bit_length()
        remedy = (
            f"on the host: sysctl -w net.{family}.neigh.default.gc_thresh3={wanted} (and gc_thresh2 half of it; in "
            "/etc/sysctl.d, too)"
        )
        if subject.backends * 2 > most:
            yield warning(
                f"the {family} neighbour table has room for {most:,}, and there are {subject.backends:,} backends: "
                "their MACs may be dropped",
                evidence,
                remedy,
            )
        elif entries > NEARLY_FULL * most:
            yield warning(f"the {family} neighbour table is nearly full", evidence, remedy)
        else:
            yield ok(f"the {family} neighbour table is large enough", evidence)


def _ping(subject: Subject) -> Iterator[Finding]:
    path = ROOT / "ipv4/icmp_echo_ignore_all"
    if _number(subject, path):
        yield note("nobody can ping the VIPs: this host answers no ping", f"{path} is 1", f"{_set(path)}=0")


def _quiet(subject: Subject) -> Iterator[Finding]:
    """Settings that are right on a backend and wrong here."""
    for name in ("all", *subject.interfaces):
        path = ROOT / "ipv4/conf" / name / "arp_ignore"
        if (_number(subject, path) or 0) >= 8:
            yield error(
                f"this host answers no ARP on {name}: nobody finds the VIPs",
                f"{path} is 8",
                f"{_set(path)}=0",
            )


def _flux(subject: Subject) -> Iterator[Finding]:
    """Whether another interface is in the VIP's LAN, only the network can tell: `lan` looks there."""
    if not _has_vip(subject, 4) or _number(subject, ROOT / "ipv4/conf/all/arp_ignore"):
        return
    for name, card in sorted(subject.cards.items()):
        on_its_own = card.kind not in ("vlan", "macvlan") and not name.startswith(CABLES)
        if name not in subject.interfaces and on_its_own and card.up and card.arp_ignore == 0:
            yield note(
                f"{name} answers ARP for addresses of other interfaces: in a VIP's LAN it draws clients to where "
                "no packet program is",
                f"netlink: arp_ignore of {name} is 0; with `vips: manage` the daemon sets it",
                f"sysctl -w net.ipv4.conf.{name.replace('.', '/')}.arp_ignore=1",
            )


def _ipv6(subject: Subject) -> Iterator[Finding]:
    if not _has_vip(subject, 6):
        return
    for name in subject.interfaces:
        path = ROOT / "ipv6/conf" / name / "disable_ipv6"
        if _number(subject, path):
            yield error(
                f"IPv6 is switched off on {name}, and there are IPv6 VIPs", f"{path} is 1", f"{_set(path)}=0"
            )


def _has_vip(subject: Subject, version: int) -> bool:
    if subject.documents:
        return any((":" in vip) == (version == 6) for vip in subject.documents["lan"]["vips"])
    services = subject.configuration.services.values() if subject.configuration else ()
    return any(listener.address.version == version for spec in services for listener in spec.listeners)


def _martians(subject: Subject) -> Iterator[Finding]:
    """The answers to our questions about VIPs come from a VIP, which is this host's own address."""
    path = ROOT / "ipv4/conf/all/log_martians"
    if _number(subject, path):
        yield note(
            "the kernel logs each answer to the director's questions on the network as a martian",
            f"{path} is 1",
            f"{_set(path)}=0, or `lan: {{probe: false}}`",
        )


def _own_source(subject: Subject) -> Iterator[Finding]:
    """Once the daemon runs, its look at the network says so."""
    manages = subject.configuration is not None and subject.configuration.vips == "manage"
    if subject.documents or not manages or not _has_vip(subject, 4):
        return
    for name, evidence in dropping(subject.interfaces, lambda path: _number(subject, path)).items():
        yield warning(own_source_drops.sentence(name), evidence, own_source_drops.remedy(name))


def _in_vain(subject: Subject) -> Iterator[Finding]:
    path = ROOT / "ipv4/ip_forward"
    if _number(subject, path):
        yield note(
            "this host forwards IP packets: a director needs that not (frames are sent on before the kernel's IP)",
            f"{path} is 1",
            f"{_set(path)}=0, unless this host is a router besides",
        )
    else:
        yield ok("this host is no router; a director need not be one", f"{path} is 0")


def _set(path: Path) -> str:
    """`sysctl -w net.ipv4.ip_forward`."""
    return "sysctl -w net." + ".".join(path.relative_to(ROOT).parts)


def _number(subject: Subject, path: Path) -> int | None:
    """None where the kernel has no such setting."""
    try:
        return int(subject.machine.text(path))
    except (FileNotFoundError, ValueError):
        return None
