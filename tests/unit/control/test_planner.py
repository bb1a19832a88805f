# SPDX-License-Identifier: Apache-2.0
"""Who serves and who takes new connections: the table of planning, row by row."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest

import tests.support.stage as s
from tests.support.stage import HOSTS, MACS
from xdpdirector.control.planner import (
    BackendStatus,
    VipVerdict,
    grown,
    plan,
    status_of,
)
from xdpdirector.dataplane.service_plan import Hop, ServicePlan, State
from xdpdirector.model import Address
from xdpdirector.model.status import Operational
from xdpdirector.net.next_hop import Route

SOURCE = bytes.fromhex("020000000001")
FOUND = Route("neighbour", MACS["web1"], SOURCE, 2, "eth0")
TAGGED = Route("neighbour", MACS["web1"], SOURCE, 4, "eth0.7", wire=2, vlan=7)
UNTAGGED = Route("neighbour", MACS["web1"], SOURCE, 2, "eth0", vlan=0)
HERE = Route("local", ifindex=1, interface="lo", why="it is this machine")
LOST = Route("unresolved", ifindex=2, interface="eth0", why="it does not answer on eth0")
KEPT = replace(FOUND, why="no route", fault="no route")
CUT = replace(FOUND, why="no carrier", fault="no carrier", is_cut=True)
ANEW = Route("unresolved", why="no eth0", fault="no eth0", is_cut=True, is_held=True)
AWAY = Route("unresolved", ifindex=2, interface="eth0", why="no carrier", fault="no carrier")
UP, DOWN, UNKNOWN = Operational.UP, Operational.DOWN, Operational.UNKNOWN
SERVING, MAINTENANCE = State.SERVING, State.MAINTENANCE


@pytest.mark.parametrize(
    ("admin", "verdict", "route", "weight", "state", "accepts"),
    [
        pytest.param("enabled", UP, FOUND, 1, SERVING, True, id="enabled, up"),
        pytest.param("enabled", UNKNOWN, FOUND, 1, SERVING, False, id="enabled, never checked"),
        pytest.param("enabled", DOWN, FOUND, 1, State.DOWN, False, id="enabled, down"),
        pytest.param("enabled", UP, LOST, 1, State.DOWN, False, id="enabled, up, not found"),
        pytest.param("enabled", UNKNOWN, LOST, 1, State.DOWN, False, id="enabled, never checked, not found"),
        pytest.param("enabled", UP, s.FAR_AWAY, 1, State.DOWN, False, id="enabled, up, on another network"),
        pytest.param("enabled", UP, KEPT, 1, SERVING, True, id="enabled, up, the director at fault"),
        pytest.param("enabled", DOWN, KEPT, 1, State.DOWN, False, id="enabled, down, the director at fault"),
        pytest.param("enabled", UP, CUT, 1, SERVING, True, id="enabled, up, cut off, no other"),
        pytest.param(
            "enabled", UP, AWAY, 1, SERVING, False, id="enabled, up, the director at fault for long"
        ),
        pytest.param(
            "enabled", UNKNOWN, AWAY, 1, SERVING, False, id="enabled, never checked, the director at fault"
        ),
        pytest.param(
            "enabled", DOWN, AWAY, 1, State.DOWN, False, id="enabled, down, the director at fault for long"
        ),
        pytest.param(
            "enabled", UP, ANEW, 1, SERVING, True, id="enabled, up, without the interface for a moment"
        ),
        pytest.param(
            "enabled", UNKNOWN, ANEW, 1, SERVING, False, id="enabled, unchecked, without the interface"
        ),
        pytest.param("enabled", UP, HERE, 1, SERVING, True, id="enabled, up, the director itself"),
        pytest.param("enabled", UP, FOUND, 0, SERVING, False, id="enabled, up, weight 0"),
        pytest.param("drain", UP, FOUND, 1, SERVING, False, id="drain, up"),
        pytest.param("drain", UNKNOWN, FOUND, 1, SERVING, False, id="drain, never checked"),
        pytest.param("drain", DOWN, FOUND, 1, State.DOWN, False, id="drain, down"),
        pytest.param("drain", UP, LOST, 1, State.DOWN, False, id="drain, not found"),
        pytest.param("drain", UP, AWAY, 1, SERVING, False, id="drain, the director at fault for long"),
        pytest.param("maintenance", UP, FOUND, 1, MAINTENANCE, False, id="maintenance, up"),
        pytest.param("maintenance", DOWN, FOUND, 1, MAINTENANCE, False, id="maintenance, down"),
        pytest.param("maintenance", UP, LOST, 1, MAINTENANCE, False, id="maintenance, not found"),
    ],
)
def test_a_backend_by_wish_and_standing(
    admin: str, verdict: Operational, route: Route, weight: int, state: State, accepts: bool
) -> None:
    spec = s.service(backends={"web1": s.backend("web1", admin=admin, weight=weight)})

    [member] = plan("web", spec, {"web1": BackendStatus(verdict, "", route)}).members

    assert (member.state, member.accepts, member.weight) == (state, accepts, weight)


@pytest.mark.parametrize(
    ("route", "hop"),
    [
        pytest.param(FOUND, Hop(MACS["web1"], SOURCE, 2), id="a neighbour"),
        pytest.param(TAGGED, Hop(MACS["web1"], SOURCE, 2, vlan=7), id="a neighbour in a VLAN"),
        pytest.param(UNTAGGED, Hop(MACS["web1"], SOURCE, 2, vlan=0), id="a neighbour beside VLANs"),
        pytest.param(HERE, Hop(bytes(6), bytes(6), 1, local=True), id="the director itself"),
        pytest.param(LOST, None, id="not found"),
        pytest.param(s.FAR_AWAY, None, id="on another network"),
    ],
)
def test_the_way_to_a_backend(route: Route, hop: Hop | None) -> None:
    [member] = plan("web", s.service("web1"), {"web1": BackendStatus(UP, "", route)}).members

    assert (member.address, member.hop) == (HOSTS["web1"], hop)


@pytest.mark.parametrize(
    ("verdict", "route", "operational", "why"),
    [
        pytest.param(DOWN, FOUND, DOWN, "refused", id="the check's reason"),
        pytest.param(DOWN, LOST, DOWN, LOST.why, id="no way: the check could not succeed"),
        pytest.param(UP, LOST, DOWN, LOST.why, id="no way: down whatever the check said"),
        pytest.param(UP, AWAY, DOWN, AWAY.why, id="no way, by the director's own fault"),
    ],
)
def test_why_a_backend_is_down(
    verdict: Operational, route: Route, operational: Operational, why: str
) -> None:
    status = BackendStatus(verdict, "refused", route)

    assert (status.operational, status.why) == (operational, why)


@pytest.mark.parametrize(
    ("verdict", "operational"),
    [(UNKNOWN, UNKNOWN), (UP, UNKNOWN), (DOWN, DOWN)],
    ids=["never checked", "up before a restart", "down"],
)
def test_a_backend_that_is_asked_for_its_mac_for_the_first_time(
    verdict: Operational, operational: Operational
) -> None:
    asked = replace(LOST, is_asked=True, why="asking for its MAC address (ARP on eth0)")
    status = BackendStatus(verdict, "", asked)

    assert status.operational is operational
    assert status.why == "asking for its MAC address (ARP on eth0)"


def test_why_a_backend_is_up_while_the_director_is_at_fault() -> None:
    status = BackendStatus(UP, "", KEPT)

    assert (status.operational, status.why) == (UP, "no route")


@pytest.mark.parametrize(
    ("second", "accepting"),
    [
        pytest.param(BackendStatus(UP, "", FOUND), ["web2"], id="another one is reached"),
        pytest.param(BackendStatus(DOWN, "refused", FOUND), ["web1"], id="the other one is down"),
        pytest.param(BackendStatus(UP, "", CUT), ["web1", "web2"], id="the other one is cut off, too"),
    ],
)
def test_new_connections_go_where_frames_can_go(second: BackendStatus, accepting: list[str]) -> None:
    made = plan("web", s.service("web1", "web2"), {"web1": BackendStatus(UP, "", CUT), "web2": second})

    assert [member.name for member in made.members if member.accepts] == accepting
    assert made.members[0].state is SERVING


def test_a_plan_says_all_that_packets_need_in_configured_order() -> None:
    spec = s.service(
        "web2", "web1", scheduler="mh", ring_slots=251, on_empty="drop", on_down="schedule", on_unknown="drop",
        timeouts={"tcp": 10, "tcpfin": 20, "udp": 15, "syn": 30},
    )  # fmt: skip

    made = plan("web", spec, {name: BackendStatus(UP, "", FOUND) for name in ("web1", "web2")})

    assert [member.name for member in made.members] == ["web2", "web1"]
    assert (made.name, made.listeners, made.scheduler, made.ring_slots) == (
        "web", spec.listeners, spec.scheduler, 251,
    )  # fmt: skip
    assert (made.on_empty, made.on_down, made.on_unknown) == ("drop", "schedule", "drop")
    assert made.flux_seconds == 20


OTHER, THIRD = s.OTHER_VIP, ip_address("192.0.2.12")
PARTIAL = Operational.PARTIAL


def at(*states: Operational, inherits: bool = False) -> BackendStatus:
    """With these verdicts at the VIPs, in order."""
    vips = zip((s.VIP, OTHER, THIRD), states, strict=False)
    verdicts = [VipVerdict(vip, state, "" if state is UP else "refused") for vip, state in vips]
    return status_of(verdicts, FOUND, inherits=inherits)


@pytest.mark.parametrize(
    ("verdicts", "operational", "state", "accepts", "out"),
    [
        pytest.param((UP, UP), UP, SERVING, True, set(), id="up at all"),
        pytest.param((UP, DOWN), PARTIAL, SERVING, True, {OTHER}, id="down at one"),
        pytest.param((UP, UNKNOWN), PARTIAL, SERVING, True, {OTHER}, id="one is new"),
        pytest.param((DOWN, UNKNOWN, UP), PARTIAL, SERVING, True, {s.VIP, OTHER}, id="one of each"),
        pytest.param((DOWN, DOWN), DOWN, State.DOWN, False, set(), id="down at all"),
        pytest.param((UNKNOWN, UNKNOWN), UNKNOWN, SERVING, False, set(), id="never checked"),
        pytest.param((DOWN, UNKNOWN), DOWN, SERVING, False, {s.VIP}, id="what one has runs on"),
    ],
)
def test_a_verdict_is_of_a_vip(
    verdicts: tuple[Operational, ...],
    operational: Operational,
    state: State,
    accepts: bool,
    out: set[Address],
) -> None:
    status = at(*verdicts)

    [member] = plan("web", s.service("web1"), {"web1": status}).members

    assert status.operational is operational
    assert (member.state, member.accepts, member.out) == (state, accepts, out)


def test_what_is_not_known_of_a_vip_ends_no_connection_of_another_director() -> None:
    [member] = plan("web", s.service("web1"), {"web1": at(UP, UNKNOWN, DOWN, inherits=True)}).members

    assert (member.state, member.accepts, member.out) == (SERVING, True, {THIRD})


ASKED = Route("unresolved", ifindex=2, interface="eth0", why="asking for its MAC", is_asked=True)


@pytest.mark.parametrize(
    ("route", "states"),
    [
        pytest.param(FOUND, [UP, DOWN], id="found"),
        pytest.param(LOST, [DOWN, DOWN], id="lost"),
        pytest.param(ASKED, [UNKNOWN, DOWN], id="asked for its MAC"),
    ],
)
def test_what_can_be_reached_is_said_of_each_vip(route: Route, states: list[Operational]) -> None:
    status = replace(at(UP, DOWN), route=route)

    assert [status.at(vip).operational for vip in (s.VIP, OTHER)] == states


@pytest.mark.parametrize(
    ("verdicts", "reason"),
    [
        pytest.param((DOWN, DOWN), "refused", id="one for all"),
        pytest.param((UP, DOWN), f"{OTHER}: refused", id="of who is down"),
        pytest.param((UNKNOWN, DOWN, UP), f"{OTHER}: refused; {s.VIP}: refused", id="first of who is down"),
    ],
)
def test_reasons_name_their_vips(verdicts: tuple[Operational, ...], reason: str) -> None:
    assert at(*verdicts).why == reason


def test_of_many_reasons_some_are_told() -> None:
    vips = [VipVerdict(s.VIP + number, DOWN, f"why {number}") for number in range(5)]

    why = status_of(vips, FOUND).why

    assert why == f"{s.VIP}: why 0; {s.VIP + 1}: why 1; {s.VIP + 2}: why 2; and 2 more VIPs"


def test_maintenance_is_for_all_vips() -> None:
    spec = s.service(backends={"web1": s.backend("web1", admin="maintenance")})

    [member] = plan("web", spec, {"web1": at(UP, DOWN)}).members

    assert (member.state, member.out) == (MAINTENANCE, set())


def test_a_vip_that_goes_keeps_who_is_out_there_until_it_is_gone() -> None:
    both = s.service("web1", listeners=[f"{vip}:80/tcp" for vip in (s.VIP, OTHER)])
    before = plan("web", both, {"web1": at(UP, DOWN)})

    [member] = grown(before, planned("web1")).members

    assert member.out == {OTHER}


def planned(*names: str, listener: str = f"{s.VIP}:80/tcp", **backends: object) -> ServicePlan:
    """All are up."""
    spec = s.service(*names, listener=listener, backends=backends)
    return plan("web", spec, {name: BackendStatus(UP, "", FOUND) for name in spec.backends})


TWO = planned("web1", "web2")


@pytest.mark.parametrize(
    ("wanted", "members", "listeners"),
    [
        pytest.param(TWO, [("web1", SERVING, True), ("web2", SERVING, True)], [":80"], id="nothing"),
        pytest.param(
            planned("web1", "web3"),
            [("web1", SERVING, True), ("web3", SERVING, True), ("web2", SERVING, False)],
            [":80"],
            id="one for another",
        ),
        pytest.param(
            planned("web2", web1=s.backend("web1", admin="maintenance")),
            [("web2", SERVING, True), ("web1", SERVING, False)],
            [":80"],
            id="maintenance",
        ),
        pytest.param(
            planned("web2", web1=s.backend("web1", admin="drain")),
            [("web2", SERVING, True), ("web1", SERVING, False)],
            [":80"],
            id="a drain",
        ),
        pytest.param(
            planned("web1", "web2", listener=f"{s.VIP}:81/tcp"),
            [("web1", SERVING, True), ("web2", SERVING, True)],
            [":81", ":80"],
            id="another listener",
        ),
    ],
)
def test_a_plan_gains_before_it_loses(
    wanted: ServicePlan, members: list[tuple[str, State, bool]], listeners: list[str]
) -> None:
    step = grown(TWO, wanted)

    assert [(member.name, member.state, member.accepts) for member in step.members] == members
    assert [
        str(listener).removeprefix(str(s.VIP)).removesuffix("/tcp") for listener in step.listeners
    ] == listeners


def test_a_backend_that_moves_stays_for_its_connections_first() -> None:
    step = grown(TWO, planned("web2", web1=s.backend("web4")))

    assert [member.address for member in step.members if member.name == "web1"] == [HOSTS["web1"]]


def test_a_new_service_has_nothing_to_lose() -> None:
    assert grown(None, TWO) is TWO
