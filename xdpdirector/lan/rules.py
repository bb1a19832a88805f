# SPDX-License-Identifier: Apache-2.0
"""Compares the expected state of the network with what was observed. Pure, and computed anew each time.

    who claims a VIP of this host                          finding
    a backend's MAC, in an answer                          vip-answered-by-backend: the ARP problem (arp_ignore)
    a backend's MAC, in an announcement or as a sender     vip-announced-by-backend (arp_announce)
    an own interface without the program, in an answer     vip-answered-by-own-interface: ARP flux
    another MAC, in an answer or as a sender               duplicate-vip

An announcement alone from an unknown MAC is no finding: it is how another director takes over, and the next
probe of the VIP shows whether both have it. The director's own MACs are no findings in other cases.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping

from xdpdirector.lan import messages
from xdpdirector.lan.expected import Scene, Target
from xdpdirector.lan.frame_parser import Manner
from xdpdirector.lan.messages import Draft
from xdpdirector.lan.observations import Claims
from xdpdirector.lan.vip_probe import Presence, Verdict
from xdpdirector.model import Address

Verdicts = Mapping[tuple[Address, Address], Verdict]
"""By (backend address, VIP)."""
KnownAs = Callable[[bytes], Collection[Address]]
"""Returns the addresses in the neighbour table with a MAC."""


def judge(
    scene: Scene, claims: Claims, verdicts: Verdicts, known_as: KnownAs, lost: Collection[Address]
) -> list[Draft]:
    """All present findings. `lost`: backends that could not be reached for a while."""
    return [
        *_claimed_vips(scene, claims, known_as),
        *_missing(scene, verdicts),
        *(messages.unreachable(target) for target in scene.targets.values() if target.address in lost),
        *_claimed_backends(scene, claims),
        *_shared_macs(scene),
        *_routers(scene),
    ]


def _claimed_vips(scene: Scene, claims: Claims, known_as: KnownAs) -> Iterator[Draft]:
    own = scene.own_macs
    for vip in scene.held:
        for mac, sight in claims.of(vip).items():
            if mac in own:
                link = scene.uncovered(mac)
                if link and Manner.ANSWER in sight.heard:
                    yield messages.claimed_by_own_interface(vip, link.name, mac, sight)
                continue
            if targets := scene.by_mac(mac):
                yield messages.claimed_by_backend(vip, targets, mac, sight)
            elif sight.heard.keys() & {Manner.ANSWER, Manner.QUESTION}:
                yield messages.claimed_by_stranger(vip, mac, sight, known_as(mac))


def _missing(scene: Scene, verdicts: Verdicts) -> Iterator[Draft]:
    """One finding per machine, even if it has several backend addresses."""
    lacking: dict[tuple[bytes | None, Address], list[Target]] = defaultdict(list)
    for (address, vip), verdict in verdicts.items():
        target = scene.targets.get(address)
        if verdict.presence is Presence.MISSING and target and _shall_have(target, vip):
            lacking[target.route.mac, vip].append(target)
    for (_, vip), targets in lacking.items():
        yield messages.vip_missing(vip, targets, verdicts[targets[0].address, vip].evidence)


def _shall_have(target: Target, vip: Address) -> bool:
    return target.is_wanted and vip in target.vips and target.route.kind == "neighbour"


def _claimed_backends(scene: Scene, claims: Claims) -> Iterator[Draft]:
    for target in scene.targets.values():
        macs = {mac for mac, sight in claims.of(target.address).items() if Manner.ANSWER in sight.heard}
        if len(macs) > 1:
            yield messages.duplicate_backend(target, macs)


def _shared_macs(scene: Scene) -> Iterator[Draft]:
    """Within an address family: one machine may be a backend by an IPv4 address and by an IPv6 address."""
    users: dict[tuple[int, bytes, int], list[Target]] = defaultdict(list)
    for target in scene.targets.values():
        if target.route.kind == "neighbour" and target.route.mac:
            users[target.route.ifindex, target.route.mac, target.address.version].append(target)
    yield from (
        messages.shared_mac(targets, mac) for (_, mac, _), targets in users.items() if len(targets) > 1
    )


def _routers(scene: Scene) -> Iterator[Draft]:
    """Clients' frames that arrive through a backend look as if that backend had scheduled them:
    bpf/loop_prevention.h."""
    for target in scene.targets.values() if scene.gateways else ():
        mac = target.route.mac
        if target.is_router or target.route.kind != "neighbour" or not mac:
            continue
        through = [each for each, its in scene.gateways.items() if each == target.address or its == mac]
        if through:
            yield messages.backend_is_router(target, through[0])
