# SPDX-License-Identifier: Apache-2.0
"""The network: what the daemon found on it, or, when none answers, what one look of our own finds."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from xdpdirector.doctor.finding import Finding, error, note, ok, warning
from xdpdirector.doctor.subject import Subject
from xdpdirector.lan.monitor import Lan
from xdpdirector.lan.types import FindingKind, LanView
from xdpdirector.model import Configuration
from xdpdirector.net.neighbours import Neighbours

RESOLVE_WITHIN = 1.5  # seconds for the kernel to find the MACs
ERRORS = {
    FindingKind.DUPLICATE_VIP,
    FindingKind.VIP_ANSWERED,
    FindingKind.VIP_ANSWERED_HERE,
    FindingKind.VIP_MISSING,
}


def look(subject: Subject) -> Iterator[Finding]:
    if subject.documents:
        seen = LanView.model_validate(subject.documents["lan"])
        yield from told(seen, f"GET /v1/lan on {subject.paths.socket}")
    elif subject.configuration:
        seen = asyncio.run(own_look(subject.configuration))
        yield from told(seen, "questions of the doctor's own")
        if not seen.probing:
            yield note("the network was not asked", "opening a packet socket", "run the doctor as root")
    else:
        yield note(
            "the network was not looked at: nobody says which backends there are", "no configuration", ""
        )


def told(seen: LanView, source: str) -> Iterator[Finding]:
    """Findings of the network, as the doctor's."""
    for each in seen.findings:
        made = error if each.kind in ERRORS else warning
        yield made(each.text, f"{each.evidence} ({source})", each.remedy)
    if not seen.findings and seen.neighbours:
        present = sum(one.presence == "present" for one in seen.presence)
        yield ok(
            f"{len(seen.neighbours)} addresses of backends are as they should be, and nobody else claims a VIP",
            f"{source}; {present} of {len(seen.presence)} times a backend answered for a VIP",
        )


class _NoEvents:
    """Nobody is told of what is found; the view has it."""

    def publish(self, kind: str, subject: str, text: str, **data: Any) -> None: ...


async def own_look(configuration: Configuration) -> LanView:
    """Once around the network, as the daemon looks. Needs CAP_NET_ADMIN and CAP_NET_RAW to see all."""
    neighbours = Neighbours(lambda address: None)
    await neighbours.start()
    lan = Lan(
        configuration.lan,
        configuration.interfaces,
        _NoEvents(),
        services=lambda: configuration.services,
        route=neighbours.get,
    )
    try:
        await _resolve(neighbours, configuration)
        await lan.look_once()
        return lan.view()
    finally:
        await lan.close()
        await neighbours.close()


async def _resolve(neighbours: Neighbours, configuration: Configuration) -> None:
    """Give the kernel a moment to find the MACs; who is not found then is a finding."""
    wanted = [
        each.address
        for spec in configuration.services.values()
        for each in spec.backends.values()
        if spec.forward_to(each) == "direct"
    ]
    for address in wanted:
        neighbours.watch(address)
    until = asyncio.get_running_loop().time() + RESOLVE_WITHIN
    while asyncio.get_running_loop().time() < until:
        if all(neighbours.get(address).kind != "unresolved" for address in wanted):
            return
        await asyncio.sleep(0.02)
