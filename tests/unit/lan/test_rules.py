# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a network, out of what ought to be and what was heard; and since when."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any

import pytest

from tests.support.lan_network import (
    DIRECTOR_MAC,
    OTHER_MAC,
    STRANGER,
    STRANGER_MAC,
    VIP4,
    VIP6,
    WEB1,
    WEB1_MAC,
    WEB2,
    WEB2_MAC,
    Network,
    neighbour,
    services,
)
from xdpdirector.lan.expected import Scene, machines_of, scene
from xdpdirector.lan.findings import Ledger
from xdpdirector.lan.frame_parser import Claim, Manner
from xdpdirector.lan.messages import Draft, blind
from xdpdirector.lan.observations import AT_MOST, Claims
from xdpdirector.lan.rules import judge
from xdpdirector.lan.types import FindingKind
from xdpdirector.lan.vip_probe import Presence, Verdict
from xdpdirector.model import Address, AdminState
from xdpdirector.net.interfaces import Interface, Tag
from xdpdirector.net.next_hop import Route

ROUTES = {WEB1: neighbour(WEB1_MAC), WEB2: neighbour(WEB2_MAC)}
WANTED = services(web1=WEB1, web2=WEB2)
SILENT = Route("unresolved", ifindex=2, interface="eth0", why="192.0.2.21 does not answer ARP on eth0")
FAR = Route("off-link", why="192.0.2.21 is behind the gateway 192.0.2.254 on eth0")
MISSING, PRESENT = Verdict(Presence.MISSING, "it was silent"), Verdict(Presence.PRESENT, "it answered")
UNKNOWN = Verdict(Presence.UNKNOWN, "it answers nothing", answers=False)
ANSWERED, ANNOUNCED, ASKED = Manner.ANSWER, Manner.ANNOUNCEMENT, Manner.QUESTION


def seen(**routes: Route) -> Scene:
    """The scene with other routes to web1 or web2."""
    known = ROUTES | {{"web1": WEB1, "web2": WEB2}[name]: route for name, route in routes.items()}
    return scene(machines_of(WANTED), known.__getitem__, Network().links(), ["eth0"])


def heard(*claims: tuple[Address, bytes, Manner]) -> Claims:
    noted = Claims()
    for claim in claims:
        noted.note("eth0", Claim(*claim), 0.0)
    return noted


def judged(now: Scene, claims: Claims, **verdicts: Verdict) -> list[Draft]:
    known = {({"web1": WEB1, "web2": WEB2}[name], VIP4): verdict for name, verdict in verdicts.items()}
    lost = [target.address for target in now.targets.values() if target.is_lost]
    return judge(now, claims, known, lambda mac: [STRANGER] if mac == STRANGER_MAC else [], lost)


GATEWAY6 = ip_address("fe80::21")


@pytest.mark.parametrize(
    ("gateways", "is_router", "found"),
    [
        ({WEB1: None}, False, [("backend-is-router", "web/web1")]),
        ({GATEWAY6: WEB1_MAC}, False, [("backend-is-router", "web/web1")]),
        ({WEB1: WEB1_MAC}, True, []),
        ({STRANGER: STRANGER_MAC}, False, []),
    ],
    ids=["by its address", "by another address of its", "said", "another machine"],
)
def test_a_backend_that_is_the_directors_router(
    gateways: dict[Address, bytes | None], is_router: bool, found: list[tuple[str, str]]
) -> None:
    spec = WANTED["web"]
    backends = spec.backends | {"web1": spec.backends["web1"].model_copy(update={"router": is_router})}
    wanted = {"web": spec.model_copy(update={"backends": backends})}
    now = scene(machines_of(wanted), ROUTES.__getitem__, Network().links(), ["eth0"], gateways)

    drafts = judge(now, Claims(), {}, lambda mac: [], [])

    assert [(each.kind, each.subject) for each in drafts] == found


@pytest.mark.parametrize(
    ("claims", "found"),
    [
        ([(VIP4, WEB1_MAC, ANSWERED)], [("vip-answered-by-backend", "web/web1")]),
        ([(VIP6, WEB1_MAC, ANSWERED)], [("vip-answered-by-backend", "web/web1")]),
        ([(VIP4, WEB1_MAC, ASKED)], [("vip-announced-by-backend", "web/web1")]),
        ([(VIP4, WEB1_MAC, ANNOUNCED)], [("vip-announced-by-backend", "web/web1")]),
        ([(VIP4, STRANGER_MAC, ANSWERED)], [("duplicate-vip", "192.0.2.10")]),
        ([(VIP6, STRANGER_MAC, ANSWERED)], [("duplicate-vip", "2001:db8::10")]),
        ([(VIP4, STRANGER_MAC, ASKED)], [("duplicate-vip", "192.0.2.10")]),
        ([(VIP4, STRANGER_MAC, ANNOUNCED)], []),
        ([(VIP4, DIRECTOR_MAC, ANSWERED)], []),
        ([(STRANGER, STRANGER_MAC, ANSWERED)], []),
        ([(WEB1, WEB1_MAC, ANSWERED)], []),
        (
            [(WEB1, WEB1_MAC, ANSWERED), (WEB1, OTHER_MAC, ANSWERED)],
            [("duplicate-backend-address", "web/web1")],
        ),
    ],
    ids=[
        "a backend answers",
        "a backend answers, IPv6",
        "a backend asks with the VIP",
        "a backend announces",
        "a stranger answers",
        "a stranger answers, IPv6",
        "a stranger asks with the VIP",
        "a stranger announces only",
        "the director itself",
        "an address that nobody wants",
        "a backend has its own address",
        "two have a backend's address",
    ],
)
def test_claims(claims: list[Any], found: list[tuple[str, str]]) -> None:
    drafts = judged(seen(), heard(*claims))

    assert [(draft.kind, draft.subject) for draft in drafts] == found


ETH1_MAC = bytes.fromhex("0200000000e1")
ETH1 = Interface("eth1", 3, ETH1_MAC, True)
VLAN7 = Interface("eth0.7", 4, ETH1_MAC, True, lower=2, vlan=Tag(7))


@pytest.mark.parametrize(
    ("other", "manner", "found"),
    [
        (ETH1, ANSWERED, [("vip-answered-by-own-interface", "192.0.2.10")]),
        (ETH1, ANNOUNCED, []),
        (VLAN7, ANSWERED, []),
    ],
    ids=["answers", "announces", "a VLAN, whose frames the program sees"],
)
def test_an_own_interface_without_the_program(
    other: Interface, manner: Manner, found: list[tuple[str, str]]
) -> None:
    """The ARP flux: Linux answers for any of its addresses on any interface."""
    network = Network()
    network.others = (other,)
    now = scene(machines_of(WANTED), ROUTES.__getitem__, network.links(), ["eth0"])

    drafts = judged(now, heard((VIP4, other.mac, manner)))

    assert [(draft.kind, draft.subject) for draft in drafts] == found
    assert all("eth1" in draft.text and "conf.eth1.arp_ignore=1" in draft.remedy for draft in drafts)


@pytest.mark.parametrize(
    ("routes", "verdicts", "found"),
    [
        ({}, {"web1": MISSING, "web2": PRESENT}, [("vip-missing-on-backend", "web/web1")]),
        ({}, {"web1": UNKNOWN}, []),
        ({"web1": SILENT}, {"web1": MISSING}, [("backend-unreachable", "web/web1")]),
        ({"web1": FAR}, {}, [("backend-unreachable", "web/web1")]),
        ({"web2": neighbour(WEB1_MAC)}, {}, [("shared-mac", "web/web1")]),
        ({"web2": replace(neighbour(WEB1_MAC), ifindex=3)}, {}, []),
        ({"web1": Route("local", ifindex=1)}, {"web1": MISSING}, []),
    ],
    ids=[
        "VIP missing",
        "cannot be told",
        "silent",
        "on another network",
        "two with one MAC",
        "one MAC on two networks",
        "the director itself",
    ],
)
def test_backends(
    routes: dict[str, Route], verdicts: dict[str, Verdict], found: list[tuple[str, str]]
) -> None:
    drafts = judged(seen(**routes), heard(), **verdicts)

    assert [(draft.kind, draft.subject) for draft in drafts] == found


def test_a_backend_in_maintenance_may_lack_what_it_wants() -> None:
    spec = WANTED["web"]
    resting = spec.backends["web1"].model_copy(update={"admin": AdminState.MAINTENANCE})
    wanted = {"web": spec.model_copy(update={"backends": {**spec.backends, "web1": resting}})}
    now = scene(machines_of(wanted), {**ROUTES, WEB1: SILENT}.__getitem__, Network().links(), ["eth0"])

    assert judged(now, heard(), web1=MISSING) == []


def test_a_vip_that_is_not_here_may_be_another_directors() -> None:
    elsewhere = replace(Network().eth0, networks=Network().eth0.networks[:2])
    now = scene(machines_of(WANTED), ROUTES.__getitem__, [elsewhere], ["eth0"])

    assert judged(now, heard((VIP4, STRANGER_MAC, ANSWERED))) == []


def test_each_finding_names_machine_evidence_and_remedy() -> None:
    claims = heard((VIP4, WEB1_MAC, ANSWERED), (VIP4, STRANGER_MAC, ANSWERED))

    backend, stranger, missing = judged(seen(), claims, web2=MISSING)

    assert "web/web1 (192.0.2.21) answers ARP for the VIP 192.0.2.10 on eth0" in backend.text
    assert "arp_ignore=1" in backend.remedy
    assert "arp_announce=2" in backend.remedy
    assert "02:00:00:00:00:15 answered an ARP probe" in backend.evidence
    assert "02:00:00:00:00:42 (also 192.0.2.66)" in stranger.text
    assert "ip address add 192.0.2.10/32 dev lo" in missing.remedy


# Claims


def test_claims_age_by_their_manner() -> None:
    claims = heard((VIP4, WEB1_MAC, ANSWERED), (VIP4, WEB1_MAC, ASKED), (VIP4, STRANGER_MAC, ANSWERED))

    claims.forget_old(11.0, 1.0, lambda address: True)
    assert claims.of(VIP4)[WEB1_MAC].heard.keys() == {ASKED}
    assert STRANGER_MAC not in claims.of(VIP4)

    claims.forget_old(601.0, 1.0, lambda address: True)
    assert claims.of(VIP4) == {}


def test_claims_to_what_is_not_wanted_are_forgotten() -> None:
    claims = heard((VIP4, WEB1_MAC, ANSWERED))

    claims.forget_old(0.0, 0.0, lambda address: address != VIP4)

    assert claims.of(VIP4) == {}


def test_a_flood_of_made_up_macs_is_not_remembered() -> None:
    claims = heard(*((VIP4, number.to_bytes(6, "big"), ANSWERED) for number in range(1000)))

    assert len(claims.of(VIP4)) == AT_MOST


# The ledger

NOON = datetime(2025, 1, 1, 12, tzinfo=UTC)


class Told:
    """A Publisher."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []

    def publish(self, kind: str, subject: str, text: str, **data: Any) -> None:
        self.events.append((kind, subject))


def test_what_comes_and_goes_is_told_once_and_keeps_its_time() -> None:
    told = Told()
    ledger = Ledger(told)
    draft = blind("Operation not permitted")

    ledger.settle([draft], NOON)
    ledger.settle([replace(draft, evidence="other words")], NOON + timedelta(hours=1))
    [finding] = ledger.findings
    assert (finding.kind, finding.since, finding.evidence) == (FindingKind.BLIND, NOON, "other words")

    ledger.settle([], NOON + timedelta(hours=2))
    assert ledger.findings == ()
    assert told.events == [("lan.blind", "director"), ("lan.cleared", "director")]
