# SPDX-License-Identifier: Apache-2.0
"""Has a backend its VIP? Found out by asking the VIP in frames to that backend's MAC.

    the VIP answers an echo request or a SYN           present
    the question comes back, or an ICMP error          missing: it took it for somebody else's
    silence, while the backend answers for itself      missing
    silence all around                                 unknown: a firewall, or it is off

Knows how to ask and how to weigh the answers; nothing of who wants to know.
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
    """`evidence` is a sentence on what was seen. `answers`: whether the backend answered anything at all."""

    presence: Presence
    evidence: str
    answers: bool = True


async def look(inquiry: Inquiry, scene: Scene, target: Target, vip: Address) -> Verdict:
    """Of a target with a MAC."""
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
    """For a question about `address` in a frame to the target; None when there is nothing to ask from."""
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
