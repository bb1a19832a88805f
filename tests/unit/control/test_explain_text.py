# SPDX-License-Identifier: Apache-2.0
"""From what the packet program found to what a person reads."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.client import Client
from xdpdirector.control.explain_text import explain
from xdpdirector.dataplane.explain_types import Finding, Question, Slot, frame_of
from xdpdirector.errors import InvalidRequestError
from xdpdirector.loader import source
from xdpdirector.model import ServiceSpec
from xdpdirector.model.listener import unicast_address
from xdpdirector.model.passive import PassiveState, PassiveView
from xdpdirector.model.status import ServiceView, TunnelView
from xdpdirector.state.change_request import Intent

VIP, VIP6, CLIENT, CLIENT6 = "192.0.2.10", "2001:db8::10", "198.51.100.7", "2001:db8:7::7"
QUESTION = {"client": CLIENT, "client_port": 40000, "vip": VIP, "port": 80}
ME = Intent("operator")
MAC1, MAC2 = bytes.fromhex("020000000021"), bytes.fromhex("020000000001")
FRAME = MAC1 + MAC2 + bytes(46)
BACKENDS = {"web1": {"address": "192.0.2.21"}, "web2": {"address": "192.0.2.22", "weight": 2}}


def found(reason: str, *facts: str, **fields: Any) -> Finding:
    plain: dict[str, Any] = {
        "action": "tx" if reason.startswith(("forward", "reject")) else "drop",
        "reason": reason,
        "facts": frozenset(facts),
        "service": "web" if facts else None,
        "backend": None,
        "slot": None,
        "frame": FRAME,
        "interface": "eth0",
        "way_out": "eth0" if reason.startswith(("forward", "reject")) else None,
    }
    return Finding(**plain | fields)


AT_REST = Slot(number=17, backend="web1", before=None, in_flux=False)
IN_FLUX = Slot(number=17, backend="web2", before="web1", in_flux=True)
SCHEDULED = ("service", "scheduled")

SENTENCES = [
    (
        "mh",
        found("forward_cid", "service", "slot", "cid", backend="web2", slot=AT_REST),
        "its QUIC connection ID has the ID of web2, where its addresses alone would not lead it",
    ),
    ("wlc", found("pass_not_vip"), "192.0.2.10 is no VIP of this director: the host's own"),
    ("wlc", found("pass_no_listener"), "no service has the listener 192.0.2.10:80/tcp: the host answers"),
    (
        "wlc",
        found("forward_new", *SCHEDULED, backend="web2"),
        "it opens a connection, and web2 has the least load for its weight: an active connection weighs 257, "
        "an inactive one 1 (wlc)",
    ),
    (
        "rr",
        found("forward_new", *SCHEDULED, "drawn", backend="web2"),
        "it opens a connection, and it is web2's turn; it was compared with 15 others, which the flow draws (rr)",
    ),
    (
        "rr",
        found("forward_new", *SCHEDULED, backend="web2"),
        "it opens a connection, and it is web2's turn (rr)",
    ),
    (
        "wlc",
        found("forward_new", "service", "client", backend="web1"),
        "it opens a connection, and its client has gone to web1 lately, and persistence keeps it there",
    ),
    (
        "wlc",
        found("forward_new", "service", "fallback", backend="web1"),
        "it opens a connection, and no other backend takes new connections, so web1 does, the fallback",
    ),
    (
        "mh",
        found("forward_new", *SCHEDULED, "slot", "partial", backend="web2", slot=AT_REST),
        "it opens a connection, and slot 17 of 16381 belongs to web1, which is down for 192.0.2.10, so web2 stands "
        "in for it",
    ),
    (
        "wlc",
        found("forward_connection", "service", "record", backend="web1"),
        "the connection is recorded, on web1",
    ),
    (
        "mh",
        found("forward_ring", "service", "slot", backend="web1", slot=AT_REST),
        "web1 owns slot 17 of 16381, which is at rest: no record is needed",
    ),
    (
        "mh",
        found("forward_before", "service", "slot", backend="web1", slot=IN_FLUX),
        "slot 17 of 16381 passes from web1 to web2 just now; the packet opens nothing and has no record, "
        "so its flow is from before and stays on web1, and is recorded",
    ),
    (
        "wlc",
        found("reject_down", "service", "record", backend="web2"),
        "its connection runs on web2, which is down (connection refused); on_down says reject, "
        "so the client gets a RST",
    ),
    (
        "mh",
        found("drop_down", "service", "slot", backend="web2", slot=AT_REST),
        "by slot 17 of 16381, its connection runs on web2, which is down (connection refused); on_down says drop",
    ),
    (
        "wlc",
        found("reject_down", "service", "record", backend=None),
        "its connection runs on a backend that is gone; on_down says reject, so the client gets a RST",
    ),
    (
        "wlc",
        found("reject_empty", "service"),
        "no backend of web takes new connections: web1 is enabled, web2 is down; on_empty says reject",
    ),
    (
        "wlc",
        found("drop_unresolved", *SCHEDULED, backend="web2"),
        "web2 was chosen, but its MAC address is not known: connection refused",
    ),
    ("wlc", found("drop_denied", "service"), "198.51.100.7 is under a denied prefix"),
]


def director(scheduler: str = "wlc", listeners: Sequence[str] = (f"{VIP}:80/tcp",)) -> FakeDirector:
    made = FakeDirector()
    made.down["web", "web2"] = "connection refused"
    web = {"listeners": listeners, "scheduler": scheduler, "backends": BACKENDS}
    asyncio.run(made.create_service("web", ServiceSpec.model_validate(web), intent=ME))
    return made


@pytest.mark.parametrize(("scheduler", "finding", "why"), SENTENCES, ids=[each[2][:50] for each in SENTENCES])
def test_the_reason_is_a_sentence(scheduler: str, finding: Finding, why: str) -> None:
    # given
    service = director(scheduler).service("web") if finding.service else None

    # when
    answer = explain(Question.model_validate(QUESTION), finding, service)

    # then
    assert answer.why == why


@pytest.mark.parametrize(
    "reason",
    [name.lower() for name in source.enums(source.inline(source.program()))["reason"] if name != "REASONS"],
)
@pytest.mark.parametrize("service", [None, "web"], ids=["no service", "web"])
def test_every_reason_has_a_sentence(reason: str, service: str | None) -> None:
    # given
    view = director().service(service) if service else None
    facts = ("service",) if service else ()

    # when
    answer = explain(Question.model_validate(QUESTION), found(reason, *facts), view)

    # then
    assert re.fullmatch(r"[^{}]{10,}", answer.why)
    assert answer.verdict in ("pass", "forward", "reject", "drop")


@pytest.mark.parametrize(("reason", "field"), [("drop_unknown", "on_unknown"), ("drop_down", "on_down")])
def test_a_reset_that_would_be_scheduled_is_dropped_for_what_it_is(reason: str, field: str) -> None:
    # given
    made = FakeDirector()
    web = {"listeners": [f"{VIP}:80/tcp"], field: "schedule", "backends": BACKENDS}
    asyncio.run(made.create_service("web", ServiceSpec.model_validate(web), intent=ME))

    # when
    answer = explain(Question.model_validate(QUESTION), found(reason, "service"), made.service("web"))

    # then
    assert answer.why.endswith(f"{field} says schedule, but a RST is never scheduled")


def tunnelled(**fields: Any) -> ServiceView:
    """`web` with web1 in another network."""
    view = director("wlc").service("web")
    tunnel = TunnelView(source=VIP, gateway="192.0.2.1", mtu=1500, longest=1480)
    far = view.backends[0].model_copy(update={"effective_forward": "ipip", "tunnel": tunnel} | fields)
    return view.model_copy(update={"backends": (far, *view.backends[1:])})


@pytest.mark.parametrize(
    ("finding", "view", "why"),
    [
        (
            found("forward_connection", "service", "record", backend="web1"),
            tunnelled(),
            "the connection is recorded, on web1; it goes there as IP in IP to 192.0.2.21 by the gateway 192.0.2.1",
        ),
        (
            found("forward_connection", "service", "record", backend="web1"),
            tunnelled(effective_forward="gue"),
            "the connection is recorded, on web1; it goes there as GUE to 192.0.2.21 by the gateway 192.0.2.1",
        ),
        (
            found("reject_too_big", "service", backend="web1"),
            tunnelled(),
            "it is longer than the tunnel to web1 takes (1480 bytes), so its sender is told by ICMP: "
            "fragmentation needed",
        ),
    ],
    ids=["IP in IP", "GUE", "too long"],
)
def test_a_tunnel_is_named(finding: Finding, view: ServiceView, why: str) -> None:
    assert explain(Question.model_validate(QUESTION), finding, view).why == why


def test_who_was_not_chosen_is_shown_too() -> None:
    # when
    finding = found("forward_new", *SCHEDULED, backend="web1")
    answer = explain(Question.model_validate(QUESTION), finding, director().service("web"))

    # then
    assert [(each.backend, each.weight, each.serving) for each in answer.candidates] == [
        ("web1", 1, True),
        ("web2", 2, False),
    ]
    assert (answer.mac, answer.way_out) == (MAC1.hex(":"), "eth0")


@pytest.mark.parametrize(
    ("finding", "why"),
    [
        pytest.param(
            found("reject_down", "service", "record", backend="web1"),
            f"its connection runs on web1, which is down for {VIP} (lost the VIP); on_down says reject, so the "
            "client gets a RST",
            id="a running connection",
        ),
        pytest.param(
            found("reject_empty", "service"),
            f"no backend of web takes new connections: web1 is down for {VIP}, web2 is down; on_empty says reject",
            id="nobody",
        ),
    ],
)
def test_a_backend_that_lacks_the_vip_is_down_for_it(finding: Finding, why: str) -> None:
    # given
    made = director(listeners=[f"{VIP}:80/tcp", f"[{VIP6}]:80/tcp"])
    made.lacking["web", "web1", unicast_address(VIP)] = "lost the VIP"

    # when
    answer = explain(Question.model_validate(QUESTION), finding, made.service("web"))

    # then
    assert answer.why == why


@pytest.mark.parametrize(("vip", "serving"), [(VIP, False), (VIP6, True)])
def test_a_candidate_serves_some_vips(vip: str, serving: bool) -> None:
    # given
    made = director(listeners=[f"{VIP}:80/tcp", f"[{VIP6}]:80/tcp"])
    made.lacking["web", "web1", unicast_address(VIP)] = "lost the VIP"
    question = {**QUESTION, "vip": vip, "client": CLIENT if vip == VIP else CLIENT6}

    # when
    finding = found("forward_new", *SCHEDULED, backend="web2")
    answer = explain(Question.model_validate(question), finding, made.service("web"))

    # then
    assert answer.candidates[0].serving is serving


@pytest.mark.parametrize(
    ("finding", "states", "why"),
    [
        pytest.param(
            found("forward_new", *SCHEDULED, backend="web2"),
            {"web2": "suspect"},
            "(rr); web2 is suspect, by its clients' SYNs",
            id="a suspect was chosen",
        ),
        pytest.param(
            found("forward_new", *SCHEDULED, backend="web2"),
            {"web1": "ejected", "web2": "trial"},
            "; web2 is on trial, as its clients' SYNs had to be sent again; passive health has ejected web1",
            id="one on trial was chosen, another is ejected",
        ),
        pytest.param(
            found("forward_connection", "service", "record", backend="web1"),
            {"web1": "ejected"},
            "the connection is recorded, on web1",
            id="a running connection",
        ),
        pytest.param(
            found("reject_empty", "service"),
            {"web1": "ejected"},
            "no backend of web takes new connections: web1 is ejected, web2 is down; on_empty says reject",
            id="nobody",
        ),
    ],
)
def test_what_passive_health_says_is_told(finding: Finding, states: dict[str, str], why: str) -> None:
    view = director("rr").service("web")
    backends = tuple(
        each.model_copy(update={"passive": PassiveView(state=PassiveState(states.get(each.name, "normal")))})
        for each in view.backends
    )

    answer = explain(
        Question.model_validate(QUESTION), finding, view.model_copy(update={"backends": backends})
    )

    assert answer.why.endswith(why)


def test_a_rejected_packet_goes_to_no_backend() -> None:
    # when
    finding = found("reject_unknown", "service")
    answer = explain(Question.model_validate(QUESTION), finding, director().service("web"))

    # then
    assert (answer.verdict, answer.mac, answer.backend) == ("reject", None, None)


# Over the API


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Client]:
    asked = director()
    asked.plane.findings[unicast_address(VIP)] = found("forward_new", *SCHEDULED, backend="web1")
    with ApiServer(asked, tmp_path / "api.sock") as server:
        yield server.client


def test_the_api_answers(api: Client) -> None:
    # when
    answer = api.post("/v1/explain", QUESTION)

    # then
    assert (answer["verdict"], answer["reason"], answer["backend"]) == ("forward", "forward_new", "web1")


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        pytest.param({"client": "somebody"}, "/client", id="no address"),
        pytest.param({"client_port": 0}, "/client_port", id="no port"),
        pytest.param({"flags": "X"}, "/flags", id="no flag"),
        pytest.param({"protocol": "icmp"}, "/protocol", id="no such protocol"),
        pytest.param({"colour": "red"}, "/colour", id="too much"),
        pytest.param({"client": CLIENT6}, "", id="two versions"),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    api: Client, changes: dict[str, object], pointer: str
) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        api.post("/v1/explain", QUESTION | changes)

    assert caught.value.pointer == pointer


# The frame


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        pytest.param(
            {},
            "0800 45000028 00000000 40060000 c6336407 c000020a 9c400050 00000001 00000000 5002faf0 00000000",
            id="SYN",
        ),
        pytest.param(
            {"flags": "FA"},
            "0800 45000028 00000000 40060000 c6336407 c000020a 9c400050 00000001 00000001 5011faf0 00000000",
            id="FIN and ACK",
        ),
        pytest.param(
            {"protocol": "udp", "port": 53},
            "0800 45000028 00000000 40110000 c6336407 c000020a 9c400035 00140000" + "00" * 12,
            id="UDP",
        ),
        pytest.param(
            {"client": CLIENT6, "vip": VIP6, "protocol": "udp"},
            "86dd 60000000 00141140 20010db8000700000000000000000007 20010db8000000000000000000000010"
            "9c400050 00140000" + "00" * 12,
            id="IPv6",
        ),
        pytest.param(
            {"protocol": "gre"}, "0800 45000020 00000000 402f0000 c6336407 c000020a" + "00" * 12, id="GRE"
        ),
    ],
)
def test_the_frame(changes: dict[str, object], expected: str) -> None:
    # when
    frame = frame_of(Question.model_validate(QUESTION | changes), MAC2, MAC1)

    # then
    assert frame.hex() == (MAC1 + MAC2 + bytes.fromhex(expected)).hex()
