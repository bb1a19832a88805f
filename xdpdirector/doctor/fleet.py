# SPDX-License-Identifier: Apache-2.0
"""The other directors: whether connections travel, and in the clear; releases, clocks, where the VIPs stand."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xdpdirector.doctor.finding import Finding, error, note, ok, warning
from xdpdirector.doctor.subject import Subject
from xdpdirector.model.configuration import VipsOnDummy

APART = 2.0  # seconds between two clocks, beyond what a busy director's answer takes
WHERE = "GET /v1/fleet"


def look(subject: Subject) -> Iterator[Finding]:
    wanted = subject.configuration.sync if subject.configuration else None
    if wanted and wanted.insecure:
        yield warning(
            "connections are sent to peers in the clear: whoever reaches the port may say which backend a "
            "connection has",
            f"sync.insecure in {subject.source}",
            "give each director a certificate: sync.tls, docs/pair.md",
        )
    fleet = subject.documents.get("fleet")
    for each in fleet.get("leaving", ()) if fleet else ():
        yield _leaving(each)
    if not fleet or not fleet["peers"]:
        return
    for peer in fleet["peers"]:
        yield from _connected(peer)
        yield from _release(peer, fleet["version"])
        yield from _clock(peer)
    yield from _vips(subject, fleet)


def _leaving(director: dict[str, Any]) -> Finding:
    who = "this director" if director["this"] else f"the director {director['name']}"
    reason = f": {director['reason']}" if director["reason"] else ""
    return warning(
        f"{who} takes no traffic, as {director['author']} wants it since {director['since']}{reason}",
        f"{WHERE}, leaving: {director['state'] or 'not heard of'}",
        f"xdpdirector fleet enable {director['name']}, when the maintenance is over",
    )


def _called(peer: dict[str, Any]) -> str:
    return f"{peer['name']} ({peer['address']})" if peer["name"] else str(peer["address"])


def _connected(peer: dict[str, Any]) -> Iterator[Finding]:
    broken = [
        (words, peer[way])
        for way, words in (("outgoing", "are not sent to"), ("incoming", "do not come from"))
        if peer[way]["state"] in ("connecting", "refused")
    ]
    for words, direction in broken:
        yield error(
            f"connections {words} the director {_called(peer)}: {direction['why']}",
            f"{WHERE}, state {direction['state']}",
            "see that it runs, that each director's sync.listen is among the other's sync.peers, and that nothing "
            "between them drops TCP to that port",
        )
    if not broken:
        yield ok(
            f"connections travel to and from the director {_called(peer)}",
            f"{WHERE}: {peer['outgoing']['state']}, {peer['incoming']['state']}",
        )


def _release(peer: dict[str, Any], version: str) -> Iterator[Finding]:
    if peer["version"] and peer["version"] != version:
        yield note(
            f"the director {_called(peer)} is of release {peer['version']}, and this one of {version}",
            f"{WHERE}, version",
            "upgrade the older one, when the newer one has proved itself",
        )


def _clock(peer: dict[str, Any]) -> Iterator[Finding]:
    lag = peer["outgoing"]["lag"] or 0.0
    if peer["clock"] is not None and abs(peer["clock"]) > APART + lag:
        way = "ahead of" if peer["clock"] > 0 else "behind"
        yield warning(
            f"the clock of the director {_called(peer)} is {abs(peer['clock']):.0f} s {way} this one's: times in "
            "events and audit do not go together (connections do not depend on it)",
            f"{WHERE}, clock",
            "apt install systemd-timesyncd on both, or chrony",
        )


def _vips(subject: Subject, fleet: dict[str, Any]) -> Iterator[Finding]:
    """Where only one director may have them, and where each may; nothing is said while a peer has not said."""
    peers = [peer for peer in fleet["peers"] if peer["vips"] is not None]
    if subject.configuration is None or len(peers) < len(fleet["peers"]):
        return
    several = isinstance(subject.configuration.vips, VipsOnDummy)
    services = subject.configuration.services.values()
    wanted = {str(listener.address) for spec in services for listener in spec.listeners}
    for vip in sorted(wanted):
        holders = [_called(peer) for peer in peers if vip in peer["vips"]]
        here = ["this director"] if vip in fleet["vips"] else []
        if not holders and not here:
            yield error(
                f"the VIP {vip} stands on no director",
                f"{WHERE}, vips of all",
                "see which director is ready (xdpdirector status), and what moves the VIPs: keepalived or BIRD",
            )
        elif len(holders) + len(here) > 1 and not several:
            yield error(
                f"the VIP {vip} stands on {' and '.join([*here, *holders])}: clients reach now this, now that one",
                f"{WHERE}, vips of all",
                "let VRRP move it (`vips: external`, xdpdirector keepalived-config), and see that its "
                "advertisements get through: protocol 112",
            )
