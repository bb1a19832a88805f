# SPDX-License-Identifier: Apache-2.0
"""Texts of all findings: what is wrong, the evidence, and the remedy. Decides nothing."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from xdpdirector.lan.expected import Target
from xdpdirector.lan.frame_parser import Manner
from xdpdirector.lan.observations import Sight
from xdpdirector.lan.types import FindingKind
from xdpdirector.model import Address
from xdpdirector.net import own_source_drops

NAMED = 3  # targets that a sentence lists


@dataclass(frozen=True)
class Draft:
    """A finding without its time. `key` identifies it when its text changes."""

    kind: FindingKind
    subject: str
    text: str
    evidence: str
    remedy: str
    vip: Address | None = None
    backends: tuple[str, ...] = ()
    mac: bytes | None = None
    interface: str | None = None

    @property
    def key(self) -> tuple[FindingKind, str, Address | None, bytes | None]:
        return self.kind, self.subject, self.vip, self.mac


def blind(why: str) -> Draft:
    """The network cannot be probed."""
    return Draft(
        FindingKind.BLIND,
        "director",
        "the director cannot probe its network: other machines with a VIP and backends without it go unnoticed",
        f"opening a packet socket: {why}",
        "give the daemon CAP_NET_RAW (AmbientCapabilities= in its systemd unit), or switch the probes off: "
        "`lan: {probe: false}`",
    )


def replies_dropped(interface: str, evidence: str) -> Draft:
    """This host's kernel does not forward packets from a VIP."""
    text, remedy = own_source_drops.sentence(interface), own_source_drops.remedy(interface)
    return Draft(FindingKind.REPLIES_DROPPED, interface, text, evidence, remedy, interface=interface)


def claimed_by_backend(vip: Address, targets: Sequence[Target], mac: bytes, sight: Sight) -> Draft:
    """The ARP problem of direct routing. `targets`: all targets with this MAC."""
    answers = Manner.ANSWER in sight.heard
    does = f"answers {protocol(vip)} for" if answers else f"announces in {protocol(vip)} that it has"
    return Draft(
        FindingKind.VIP_ANSWERED if answers else FindingKind.VIP_ANNOUNCED,
        targets[0].names[0],
        f"{_all(targets)} {does} the VIP {vip} on {sight.interface}: clients that believe it bypass the director",
        f"{_heard(vip, mac, sight)}; that is the MAC of {targets[0].address}",
        _keep_quiet(vip),
        vip,
        _names(targets),
        mac,
        sight.interface,
    )


def claimed_by_own_interface(vip: Address, name: str, mac: bytes, sight: Sight) -> Draft:
    """ARP flux: Linux answers ARP for all addresses of a host on all its interfaces."""
    settings = f"net.ipv4.conf.{name.replace('.', '/')}"
    sysctls = f"{settings}.arp_ignore=1 {settings}.arp_announce=2"
    return Draft(
        FindingKind.VIP_ANSWERED_HERE,
        str(vip),
        f"this director itself answers {protocol(vip)} for the VIP {vip} with the MAC of {name}, which does not "
        "carry the packet program: clients that believe it are refused by the host",
        f"{_heard(vip, mac, sight)}; that is the MAC of {name}",
        f"`sysctl -w {sysctls}` (and in /etc/sysctl.d); or name {name} in `interfaces`, too",
        vip,
        (),
        mac,
        sight.interface,
    )


def claimed_by_stranger(vip: Address, mac: bytes, sight: Sight, known_as: Collection[Address]) -> Draft:
    """`known_as`: addresses in the neighbour table with this MAC."""
    others = ", ".join(str(address) for address in known_as if address != vip)
    name = f"{mac.hex(':')} (also {others})" if others else mac.hex(":")
    return Draft(
        FindingKind.DUPLICATE_VIP,
        str(vip),
        f"another machine, {name}, has the VIP {vip} on {sight.interface}: "
        "some clients go to it and not to the director",
        _heard(vip, mac, sight),
        f"take {vip} off that machine: the switch's MAC table shows its port. If it is a second director, let only "
        "one of them hold the VIP: VRRP, with `vips: external`",
        vip,
        (),
        mac,
        sight.interface,
    )


def vip_missing(vip: Address, targets: Sequence[Target], evidence: str) -> Draft:
    return Draft(
        FindingKind.VIP_MISSING,
        targets[0].names[0],
        f"{_all(targets)} does not have the VIP {vip}: packets that clients send there are lost",
        evidence,
        f"on that backend: `ip address add {vip}/{vip.max_prefixlen} dev lo`; if it is there, a firewall of that "
        f"backend drops packets to {vip}",
        vip,
        _names(targets),
        targets[0].route.mac,
        targets[0].route.interface,
    )


def unreachable(target: Target) -> Draft:
    remedy = {
        "off-link": "give it, or the director, an address on a network that both are on",
        "unresolved": "look whether it is switched on and cabled, in the same VLAN, and has that address",
    }
    return Draft(
        FindingKind.BACKEND_UNREACHABLE,
        target.names[0],
        f"{target} cannot be reached: {target.route.why}",
        f"the director's routes and neighbour table say: {target.route.kind}",
        remedy[target.route.kind],
        None,
        target.names,
        None,
        target.route.interface or None,
    )


def duplicate_backend(target: Target, macs: Collection[bytes]) -> Draft:
    return Draft(
        FindingKind.DUPLICATE_BACKEND,
        target.names[0],
        f"{len(macs)} machines have the address of {target}: frames for it go now to one, now to another",
        f"one question by {protocol(target.address)} was answered by {_listed(macs)}",
        "give each of them an address of its own: the switch's MAC table shows their ports",
        None,
        target.names,
        None,
        target.route.interface or None,
    )


def shared_mac(targets: Sequence[Target], mac: bytes) -> Draft:
    names = _names(targets)
    interface = targets[0].route.interface
    return Draft(
        FindingKind.SHARED_MAC,
        names[0],
        f"{_all(targets)} have the same MAC {mac.hex(':')}: one machine takes the load of {len(targets)}",
        f"the director's neighbour table on {interface}",
        "if they are clones of a virtual machine, give each a MAC of its own; if a router answers ARP for them, "
        "switch its proxy_arp off; if it is one machine, name it once",
        None,
        names,
        mac,
        interface,
    )


def backend_is_router(target: Target, gateway: Address) -> Draft:
    known = "that is its address" if gateway == target.address else "that address has its MAC"
    return Draft(
        FindingKind.BACKEND_ROUTES,
        target.names[0],
        f"{target} is this director's router: clients' packets that come in through it are taken for those that it "
        "has scheduled as another director, and are not scheduled to it",
        f"the default route goes by {gateway}; {known}",
        "set `router: true` on this backend; but not if it is a director that has this machine as a backend",
        None,
        target.names,
        target.route.mac,
        target.route.interface or None,
    )


def protocol(address: Address) -> str:
    return "ARP" if address.version == 4 else "neighbour discovery"


def _heard(vip: Address, mac: bytes, sight: Sight) -> str:
    question = "an ARP probe" if vip.version == 4 else "a neighbour solicitation"
    words = {
        Manner.ANSWER: f"answered {question}",
        Manner.ANNOUNCEMENT: "announced it without a request",
        Manner.QUESTION: f"sent ARP requests with {vip} as their sender",
    }
    return f"{mac.hex(':')} " + " and ".join(words[manner] for manner in Manner if manner in sight.heard)


def _keep_quiet(vip: Address) -> str:
    if vip.version == 6:
        return (
            f"on that backend: take {vip} off its network card and put it on lo: "
            f"`ip address add {vip}/128 dev lo nodad`"
        )
    return (
        "on that backend: `sysctl -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2` (and in "
        f"/etc/sysctl.d), and the VIP on lo only: `ip address add {vip}/32 dev lo`"
    )


def _all(targets: Sequence[Target]) -> str:
    """The first few: a router with proxy ARP for a whole network is the machine of all its hosts."""
    more = [f"{len(targets) - NAMED} more"] if len(targets) > NAMED else []
    return " and ".join([*map(str, targets[:NAMED]), *more])


def _names(targets: Sequence[Target]) -> tuple[str, ...]:
    return tuple(name for target in targets for name in target.names)


def _listed(macs: Collection[bytes]) -> str:
    return " and ".join(mac.hex(":") for mac in sorted(macs))
