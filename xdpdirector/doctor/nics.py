# SPDX-License-Identifier: Apache-2.0
"""The network interfaces that carry the packet program: link, driver, XDP mode, offloads, queues. Decides only.

Why each of these matters: LRO merges frames that must be sent on as they came, and most drivers refuse XDP with it;
a stripped VLAN tag travels beside the frame, where XDP does not see it; without a transmit queue for each processor
XDP_TX waits for a lock.
"""

from __future__ import annotations

from collections.abc import Iterator

from xdpdirector.doctor import transmitting
from xdpdirector.doctor.finding import Finding, error, note, ok, warning
from xdpdirector.doctor.nic import Card
from xdpdirector.doctor.subject import Subject

# Drivers with native XDP in Linux 6.1 (their .ndo_bpf).
NATIVE = frozenset(
    [
        *(
            "bnxt_en",
            "bonding",
            "ena",
            "enetc",
            "fec",
            "fsl_dpa",
            "fsl_dpaa2_eth",
            "funeth",
            "gve",
            "hv_netvsc",
        ),
        *(
            "i40e",
            "ice",
            "igb",
            "igc",
            "ixgbe",
            "ixgbevf",
            "lan966x",
            "mana",
            "mlx4_en",
            "mlx5_core",
            "mtk_eth_soc",
        ),
        *("mvneta", "mvpp2", "nfp", "nicvf", "qede", "rvu_nicpf", "sfc", "st_gmac", "stmmac", "tsnep", "tun"),
        *("veth", "vif", "virtio_net"),
    ]
)
LARGEST_NATIVE_MTU = 3498  # a page less headroom and tail; more needs a driver that takes several buffers
MERGES = {"rx-lro": "lro", "large-receive-offload": "lro", "rx-gro-hw": "rx-gro-hw"}
STRIPS = {"rx-vlan-hw-parse": "rxvlan", "rx-vlan-offload": "rxvlan"}
OURS = "director"


def look(subject: Subject) -> Iterator[Finding]:
    for name in subject.interfaces:
        card = subject.cards.get(name)
        if card is None:
            there = ", ".join(sorted(subject.cards))
            yield error(
                f"interface {name} does not exist", f"netlink; there are: {there}", "name one of these"
            )
            continue
        if card.port_fault:
            yield error(card.port_fault, "netlink: IFLA_MASTER", "name the other interface, as it says")
        yield from _link(card)
        yield from _program(card, subject)
        yield from transmitting.look(card, subject.configuration.mode if subject.configuration else "auto")
        yield from _offloads(card)
        yield from _queues(card, subject.machine.processors)
    cards = [subject.cards[name] for name in subject.interfaces if name in subject.cards]
    yield from _sizes(cards)
    yield from transmitting.between(cards)
    yield from _lvs_sync(subject)


def _lvs_sync(subject: Subject) -> Iterator[Finding]:
    """Where the sync protocol of LVS goes in and out."""
    spec = subject.configuration.lvs.sync if subject.configuration else None
    if spec is None:
        return
    card = subject.cards.get(spec.interface)
    if card is None:
        there = ", ".join(sorted(subject.cards))
        yield error(
            f"interface {spec.interface} of lvs.sync does not exist",
            f"netlink; there are: {there}",
            "name one of these",
        )
    elif not (card.up and card.carrier):
        yield warning(
            f"interface {spec.interface} of lvs.sync is down: no connections come from LVS directors or go there",
            "netlink: IFF_UP, IFLA_CARRIER",
            f"ip link set {spec.interface} up",
        )
    else:
        yield note(
            f"whoever reaches {spec.interface} can say which backend a connection has: the sync protocol of LVS "
            "proves nothing",
            f"lvs.sync: {spec.role}, group {spec.group}, port {spec.port}",
            "use an interface that only directors reach, and take lvs.sync out after the move",
        )


def _sizes(cards: list[Card]) -> Iterator[Finding]:
    """What comes in at one interface may have to leave at another."""
    if len({card.mtu for card in cards}) > 1:
        listed = ", ".join(f"{card.name} {card.mtu}" for card in cards)
        yield warning(
            "the interfaces have different MTUs: a frame that is larger than the one it leaves at is lost",
            f"netlink: {listed}",
            f"ip link set DEVICE mtu {min(card.mtu for card in cards)}, for all of them",
        )


def _link(card: Card) -> Iterator[Finding]:
    if not card.up:
        yield error(
            f"{card.name} is switched off", "netlink: IFF_UP is not set", f"ip link set {card.name} up"
        )
    elif not card.carrier:
        yield error(
            f"{card.name} has no carrier",
            "netlink: IFF_LOWER_UP is not set",
            "look at its cable and the switch's port",
        )
    else:
        kind = card.driver or card.kind or "unknown driver"
        yield ok(f"{card.name} is up ({kind}, MTU {card.mtu})", "netlink, ethtool -i")


def _program(card: Card, subject: Subject) -> Iterator[Finding]:
    if not card.program_id:
        made = error if subject.documents else note
        yield made(
            f"{card.name} carries no XDP program",
            "libbpf",
            "xdpdirector load, or start the daemon, which attaches it",
        )
        return
    strange = card.program_id not in subject.program_ids
    other = subject.machine.instance_of(card.program_id) if strange else None
    program = f"program {card.program_id}" + (f" '{card.program}'" if card.program else "")
    if other and other != subject.paths.name:
        yield error(
            f"{card.name} carries the packet program of instance '{other}'",
            f"the pins in {subject.paths.pins.with_name(other)}",
            f"take {card.name} out of `interfaces` of instance '{subject.paths.name}' and give it another, or "
            "serve both from one instance",
        )
    elif strange and not card.program:
        yield warning(
            f"{card.name} carries an XDP {program}, and nobody may say whose",
            "libbpf",
            "run the doctor as root",
        )
    elif strange and card.program != OURS:
        yield error(
            f"{card.name} carries somebody else's XDP {program}",
            f"libbpf, {card.mode} mode",
            f"stop what attached it, or `ip link set dev {card.name} xdp off`, or `xdpdirector load --force`",
        )
    elif card.mode == "generic":
        yield warning(
            f"{card.name} runs in generic mode, several times slower than native: {_why_generic(card)}",
            f"libbpf: {program}",
            _remedy_for_generic(card),
        )
    else:
        yield ok(f"{card.name} carries {program} in {card.mode} mode", "libbpf")


def _why_generic(card: Card) -> str:
    if card.driver and card.driver not in NATIVE:
        return f"the driver {card.driver} is not known to have native mode"
    if merging := _on(card, MERGES):
        return f"{' and '.join(merging)} is on"
    if card.mtu > LARGEST_NATIVE_MTU:
        return (
            f"a frame of an MTU of {card.mtu} does not fit into a page, and not every driver takes frames in "
            "several buffers"
        )
    return (
        "perhaps `mode: generic` in the configuration; the daemon's log says what native mode was refused for"
    )


def _remedy_for_generic(card: Card) -> str:
    change = "then `xdpdirector unload` and start again: a mode cannot be changed in place"
    if card.driver and card.driver not in NATIVE:
        return "use a card whose driver has native XDP"
    if merging := _on(card, MERGES):
        return f"ethtool -K {card.name} {' '.join(f'{each} off' for each in merging)}; {change}"
    if card.mtu > LARGEST_NATIVE_MTU:
        return f"ip link set {card.name} mtu 1500; {change}"
    return f"`mode: auto`; {change}"


def _on(card: Card, features: dict[str, str]) -> list[str]:
    """Which of these are on, by the name that `ethtool -K` takes."""
    return sorted({short for name, short in features.items() if card.features.get(name)})


def _offloads(card: Card) -> Iterator[Finding]:
    if not card.features:
        yield note(f"the offloads of {card.name} are not known", "ethtool -k", "")
        return
    for short in _on(card, MERGES):
        yield warning(
            f"{short} is on at {card.name}: received frames are merged, and can then not be sent on as they came",
            f"ethtool -k {card.name}",
            f"ethtool -K {card.name} {short} off",
        )
    for short in _on(card, STRIPS):
        yield note(
            f"{card.name} takes VLAN tags off received frames: the program sees tagged frames as untagged ones",
            f"ethtool -k {card.name}",
            f"ethtool -K {card.name} {short} off, if clients' frames come with a tag",
        )
    if not _on(card, MERGES):
        yield ok(
            f"no offload of {card.name} merges frames",
            f"ethtool -k {card.name}: LRO and GRO in hardware are off",
        )


def _queues(card: Card, processors: int) -> Iterator[Finding]:
    if card.queues is None:
        return
    used, most = card.queues
    evidence = f"ethtool -l {card.name}: {used} in use, {most} at most; {processors} processors"
    if used < min(most, processors):
        yield warning(
            f"{card.name} receives on {used} of {most} queues: so many processors share the work and no more",
            evidence,
            f"ethtool -L {card.name} combined {min(most, processors)}",
        )
    elif used == 1 and processors > 1:
        yield note(
            f"{card.name} has one queue: one processor does all the work", evidence, _more_queues(card)
        )
    else:
        yield ok(f"{card.name} receives on {used} queues", evidence)
    if card.driver == "virtio_net" and card.transmit_queues < used + processors:
        yield note(
            f"{card.name} has fewer transmit queues than receiving ones and processors: XDP_TX takes locks",
            f"netlink: {card.transmit_queues} transmit queues; {used} receive, {processors} processors",
            f"give the virtual machine {used + processors} queue pairs",
        )


def _more_queues(card: Card) -> str:
    return "give the virtual machine more queue pairs" if card.driver == "virtio_net" else ""
