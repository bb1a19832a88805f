# SPDX-License-Identifier: Apache-2.0
"""Whether what the packet program sends on leaves: native mode on a veth, generic mode between two interfaces, and
what drivers count. Decides only.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from xdpdirector.doctor.finding import Finding, error, note, ok, warning
from xdpdirector.doctor.nic import Card
from xdpdirector.net import veth_peer

MERGES = "rx-gro"


def look(card: Card, wanted: str) -> Iterator[Finding]:
    """`wanted`: the configuration's mode, which decides as long as no program is there."""
    mode = card.mode or wanted
    if card.kind == "veth":
        yield from _veth(card, mode)
    if card.mode and card.transmit_errors:
        yield warning(
            f"{card.name} has lost {card.transmit_errors:,} frames that XDP could not transmit",
            f"ethtool -S {card.name}; GET /v1/stats, attachments: transmit_errors",
            veth_peer.remedy(card.name, card.peer.name if card.peer else "")
            if card.kind == "veth" and mode == "native"
            else "if it grows: more or longer transmit queues (`ethtool -L`, `ethtool -G`), and one MTU everywhere",
        )


def _veth(card: Card, mode: str) -> Iterator[Finding]:
    if mode == "generic":
        return
    evidence = f"ethtool -S {card.name}: peer_ifindex; netlink and ethtool -k in the peer's network namespace"
    if card.peer is None:
        if mode == "native":
            yield note(
                f"{card.name} is a veth in native mode, and {veth_peer.UNSEEN}: it may lose what is sent on",
                evidence,
                f"run the doctor as root; {veth_peer.remedy(card.name)}",
            )
        return
    if not card.peer.fault:
        yield ok(f"the peer of {card.name} is ready for native XDP", evidence)
    elif mode == "native":
        yield error(
            f"{card.name} is a veth, and in native mode it loses what is sent on: {card.peer.fault}",
            evidence,
            veth_peer.remedy(card.name, card.peer.name),
        )
    else:
        yield note(
            f"{card.name} is a veth, and `mode: auto` takes generic mode: {card.peer.fault}",
            evidence,
            f"for native mode: {veth_peer.remedy(card.name, card.peer.name)}",
        )


def between(cards: Sequence[Card]) -> Iterator[Finding]:
    """In generic mode the program sees frames that were merged, and the kernel sends none on to another interface
    that is larger than its MTU (xdp_ok_fwd_dev)."""
    if len(cards) < 2:
        return
    for card in cards:
        if card.mode == "generic" and (why := _merged(card)):
            said, change = why
            yield warning(
                f"uploads of more than the MTU stall between {card.name} and the other interfaces: in generic mode "
                f"{said}",
                f"ethtool -k; the mode of {card.name} is generic",
                change,
            )


def _merged(card: Card) -> tuple[str, str] | None:
    """Why frames come in that are larger than they were on the wire, and what to do; None when none do."""
    if card.peer and card.peer.checksums:
        return (
            f"frames come from its peer {card.peer.name} before they are divided",
            f"ethtool -K {card.peer.name} tx off, in the peer's network namespace; or native mode",
        )
    if card.kind != "veth" and card.features.get(MERGES):
        return (
            "the kernel merges received frames (GRO) first",
            f"ethtool -K {card.name} gro off; or native mode",
        )
    return None
