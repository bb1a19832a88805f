# SPDX-License-Identifier: Apache-2.0
"""Whether a backend has its VIP: probes the VIP in frames to the backend's MAC.

    the VIP answers an echo request or a SYN           present
    the probe comes back, or an ICMP error             missing: the backend forwarded it
    no answer, while the backend's own address answers missing
    no answer from either                              unknown: a firewall, or the backend is down

Knows how to probe and how to interpret the responses; does not know who uses the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from xdpdirector.lan.expected import Scene, Target
from xdpdirector.lan.frame_builder import Ends
from xdpdirector.lan.frame_parser import Return
from xdpdirector.lan.request import Inquiry
from xdpdirector.model import Address


class Presence(StrEnum):
    PRESENT = "present"
    MISSING = "missing"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Verdict:
    """`evidence`: a sentence on what was observed. `answers`: whether the backend answered at all."""

    presence: Presence
    evidence: str
    answers: bool = True


async def look(inquiry: Inquiry, scene: Scene, target: Target, vip: Address) -> Verdict:
    """Probe a target that has a MAC."""
    port = target.vips[vip]
    at_vip, itself = _ends(scene, target, vip), _ends(scene, target, target.address)
    interface = target.route.interface
    if at_vip is None or itself is None:
        family = f"IPv{(vip if at_vip is None else target.address).version}"
        return Verdict(Presence.UNKNOWN, f"the director has no {family} address on {interface} to ask from")
    if answer := await inquiry.echo(interface, at_vip):
        return _weighed(answer, f"an echo request for {vip}")
    if port and (answer := await inquiry.knock(interface, at_vip, port)):
        return _weighed(answer, f"a SYN to port {port} of {vip}")
    if await inquiry.echo(interface, itself):
        asked = "echo requests"
    elif port and await inquiry.knock(interface, itself, port):
        asked = f"SYNs to port {port}"
    else:
        return Verdict(Presence.UNKNOWN, "it answers nothing that it is asked", answers=False)
    return Verdict(
        Presence.MISSING,
        f"it answers {asked} for {target.address}, and was silent {inquiry.tries} times for {vip}",
    )


def _ends(scene: Scene, target: Target, address: Address) -> Ends | None:
    """MAC and IP addresses for a probe of `address` in a frame to the target; None without a source address."""
    source = scene.source(target.route.interface, address)
    if source is None or target.route.mac is None or target.route.source_mac is None:
        return None
    return Ends(target.route.source_mac, target.route.mac, source, address)


def _weighed(answer: Return, question: str) -> Verdict:
    if answer.kind == "reply":
        return Verdict(Presence.PRESENT, f"it answered {question}")
    if answer.kind == "bounced":
        return Verdict(Presence.MISSING, f"it sent {question} on as if it were a router")
    return Verdict(Presence.MISSING, f"it refused {question} with an ICMP error from {answer.sender}")
