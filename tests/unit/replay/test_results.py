# SPDX-License-Identifier: Apache-2.0
"""What became of frames: named, counted, recorded, compared; and the capture's clock."""

from __future__ import annotations

import io
import json
from ipaddress import ip_address

import numpy as np
import pytest
from scapy.layers.inet import ICMP, IP, TCP
from scapy.layers.l2 import Ether
from scapy.packet import Packet as Layers

from xdpdirector.dataplane.service_plan import State
from xdpdirector.errors import InvalidRequestError
from xdpdirector.model import Configuration
from xdpdirector.replay.assumptions import Premises, backends_of, macs_of, made_up_mac
from xdpdirector.replay.batch import ROOM, Batch
from xdpdirector.replay.clock import LONGEST_GAP, Passing
from xdpdirector.replay.flow_diff import Changes, Move
from xdpdirector.replay.outcomes import Decision, Decisions, Names, codes
from xdpdirector.replay.packet import Packet
from xdpdirector.replay.results_log import Comparison, Recorder, read
from xdpdirector.replay.summary import Summary

SERVED = 1
FORWARD_NEW, REJECT_DOWN, DROP_EMPTY, PASS_NOT_VIP, UNREAD = 7, 14, 21, 1, None
REASONS = {
    7: "forward_new",
    8: "forward_before",
    9: "forward_reopened",
    6: "forward_connection",
    5: "forward_ring",
    14: "reject_down",
    21: "drop_empty",
    1: "pass_not_vip",
}
NAMES = Names(REASONS, {0: "web", 3: "dns"}, {0: ("web", "web1"), 1: ("web", "web2"), 9: ("dns", "ns1")})
NOTED = np.dtype([("reason", "u1"), ("facts", "u1"), ("service", "u4"), ("backend", "u4")])
NO_BACKEND = 0xFFFF


def decided(*noted: tuple[int, int | None, int] | None) -> Decisions:
    """Reason, service (None: none was found) and backend; None for a frame that was not run."""
    run = [note for note in noted if note]
    outcomes = np.array(
        [(reason, service is not None, service or 0, backend) for reason, service, backend in run], NOTED
    )
    places = np.array([place for place, note in enumerate(noted) if note], np.int64)
    return Decisions(codes(outcomes, SERVED, places, len(noted)), NAMES)


WEB1, WEB2, NS1 = (FORWARD_NEW, 0, 0), (FORWARD_NEW, 0, 1), (FORWARD_NEW, 3, 9)
REFUSED, NOT_OURS = (DROP_EMPTY, 0, NO_BACKEND), (PASS_NOT_VIP, None, NO_BACKEND)


@pytest.mark.parametrize(
    ("noted", "expected"),
    [
        pytest.param(WEB2, Decision("forward_new", "web", "web2"), id="forwarded"),
        pytest.param(NS1, Decision("forward_new", "dns", "ns1"), id="another service"),
        pytest.param((FORWARD_NEW, None, 9), Decision("forward_new", "dns", "ns1"), id="without a service"),
        pytest.param((REJECT_DOWN, 0, 0), Decision("reject_down", "web", "web1"), id="speaks of a backend"),
        pytest.param(REFUSED, Decision("drop_empty", "web"), id="of a service alone"),
        pytest.param((DROP_EMPTY, 0, 0), Decision("drop_empty", "web"), id="backend that was only looked at"),
        pytest.param(NOT_OURS, Decision("pass_not_vip"), id="of nobody"),
        pytest.param(None, Decision("unread_cut"), id="not run"),
    ],
)
def test_a_decision_is_named(noted: tuple[int, int | None, int] | None, expected: Decision) -> None:
    assert decided(WEB1, noted, WEB1)[1] == expected


def test_decisions_are_counted() -> None:
    counted = decided(WEB1, None, WEB2, WEB1, NOT_OURS).count()

    assert counted == {
        Decision("forward_new", "web", "web1"): 2,
        Decision("forward_new", "web", "web2"): 1,
        Decision("pass_not_vip"): 1,
        Decision("unread_cut"): 1,
    }


def batch(*frames: bytes) -> Batch:
    rows = np.zeros((len(frames), ROOM), np.uint8)
    for row, frame in zip(rows, frames, strict=True):
        row[: len(frame)] = np.frombuffer(frame, np.uint8)
    lengths = np.array([len(frame) for frame in frames])
    return Batch(1, np.arange(len(frames)), lengths, lengths, rows)


def frame(sport: int, layer: Layers | None = None) -> bytes:
    sent = layer or TCP(sport=sport, dport=80)
    ether = Ether(src="02:00:00:00:00:99", dst="02:00:00:00:00:01")
    return bytes(ether / IP(src="198.51.100.7", dst="192.0.2.10") / sent)


def test_a_summary_counts_by_verdict_reason_and_backend() -> None:
    # given
    summary, seconds = Summary(), np.array([0.0, 0.5, 0.5, 2.5])
    frames = batch(*[frame(1)] * 4)

    # when
    summary.add(frames, seconds, decided(WEB1, WEB2, NOT_OURS, WEB2))
    summary.add(frames, seconds + 3, decided(REFUSED, None, NS1, WEB2))

    # then
    assert summary.document() == {
        "frames": 8,
        "bytes": 8 * len(frame(1)),
        "seconds": 5.5,
        "cut": 0,
        "shortened": 0,
        "verdicts": {"forward": 5, "pass": 1, "drop": 1, "unread": 1},
        "reasons": {"forward_new": 5, "pass_not_vip": 1, "drop_empty": 1, "unread_cut": 1},
        "forwarded": {"dns": {"ns1": 1}, "web": {"web1": 1, "web2": 3}},
    }


def test_a_summary_counts_what_is_recorded_as_connections() -> None:
    summary = Summary()

    summary.add(
        batch(*[frame(1)] * 5),
        np.zeros(5),
        decided(*[(reason, 0, 0) for reason in (5, 6, FORWARD_NEW, 8, 9)]),
    )

    assert summary.opened == {("web", "web1"): 3}


# Recordings

PACKETS = [
    Packet(1, 0.0, "198.51.100.7:1 > 192.0.2.10:80/tcp S", Decision("forward_new", "web", "web1")),
    Packet(2, 0.25, "198.51.100.7:1 > 192.0.2.10:80/tcp A", Decision("forward_connection", "web", "web1")),
    Packet(3, 0.5, "arp", Decision("pass_not_ip")),
]


def recorded(packets: list[Packet]) -> io.StringIO:
    file = io.StringIO()
    Recorder(file).add(packets)
    file.seek(0)
    return file


def compared(expected: list[Packet], found: list[Packet], most: int = 20) -> Comparison:
    comparison = Comparison(read(recorded(expected), "expected.jsonl"), most)
    for packet in found:
        comparison.add([packet])
    comparison.finish()
    return comparison


def test_a_recording_is_a_line_for_each_packet() -> None:
    lines = [json.loads(line) for line in recorded(PACKETS)]

    assert lines == [
        {"kind": "xdpdirector-replay", "version": 1},
        {
            "packet": 1,
            "time": 0.0,
            "flow": PACKETS[0].flow,
            "reason": "forward_new",
            "service": "web",
            "backend": "web1",
        },
        {
            "packet": 2,
            "time": 0.25,
            "flow": PACKETS[1].flow,
            "reason": "forward_connection",
            "service": "web",
            "backend": "web1",
        },
        {"packet": 3, "time": 0.5, "flow": "arp", "reason": "pass_not_ip"},
    ]


def test_a_recording_is_read_back() -> None:
    assert list(read(recorded(PACKETS), "expected.jsonl")) == PACKETS


def test_what_is_as_recorded_does_not_differ_whenever_it_came() -> None:
    later = [Packet(each.number, each.seconds + 1, each.flow, each.decision) for each in PACKETS]

    assert compared(PACKETS, later).differing == 0


MOVED = Packet(2, 0.25, PACKETS[1].flow, Decision("forward_connection", "web", "web2"))
OTHER = Packet(2, 0.25, "arp", PACKETS[1].decision)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        pytest.param(
            [PACKETS[0], MOVED, PACKETS[2]],
            f"packet 2, {MOVED.flow}: forward_connection web/web1 was expected; "
            "it is forward_connection web/web2",
            id="another backend",
        ),
        pytest.param(
            [PACKETS[0], OTHER, PACKETS[2]],
            f"packet 2: is arp, another packet than was recorded: {MOVED.flow}",
            id="another packet",
        ),
        pytest.param(PACKETS[:2], "packet 3, arp: is missing; pass_not_ip was expected", id="missing"),
        pytest.param(
            [*PACKETS, Packet(4, 1.0, "arp", Decision("pass_not_ip"))],
            "packet 4, arp: was not expected; it is pass_not_ip",
            id="one more",
        ),
    ],
)
def test_a_difference_is_a_sentence(found: list[Packet], said: str) -> None:
    assert [str(each) for each in compared(PACKETS, found).first] == [said]


def test_only_the_first_differences_are_kept() -> None:
    comparison = compared(PACKETS, [], most=2)

    assert (comparison.differing, len(comparison.first)) == (3, 2)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("# notes\n", 1, id="not JSON"),
        pytest.param('{"kind": "other", "version": 1}\n', 1, id="of another kind"),
        pytest.param('{"kind": "xdpdirector-replay", "version": 2}\n', 1, id="of another version"),
        pytest.param("[]\n", 1, id="not an object"),
        pytest.param(
            '{"kind": "xdpdirector-replay", "version": 1}\n{"packet": 1}\n', 2, id="a key is missing"
        ),
    ],
)
def test_what_is_no_recording_is_refused_with_its_line(text: str, line: int) -> None:
    with pytest.raises(
        InvalidRequestError, match=rf"^expected\.jsonl:{line}: this is no line of a recording"
    ):
        list(read(io.StringIO(text), "expected.jsonl"))


# Changes


def test_flows_move_with_their_first_packet_that_goes_elsewhere() -> None:
    # given three flows, an ICMP error, and a frame for nobody
    frames = batch(frame(1), frame(2), frame(1), frame(3), frame(2), frame(0, ICMP(type=3)), frame(9))
    before = decided(WEB1, WEB1, WEB1, WEB2, WEB1, WEB1, NOT_OURS)
    after = decided(WEB1, WEB2, (REJECT_DOWN, 0, 0), WEB2, WEB1, WEB2, NOT_OURS)

    # when
    changes = Changes()
    changes.add(frames, before, after)

    # then
    assert changes.moves == {Move("web/web1", "web/web2"): 1, Move("web/web1", "reject_down"): 1}
    assert changes.document() == {
        "flows": 3,
        "moved": 2,
        "moves": [
            {"from": "web/web1", "to": "reject_down", "flows": 1},
            {"from": "web/web1", "to": "web/web2", "flows": 1},
        ],
        "frames": 3,
        "others": [{"from": "web/web1", "to": "web/web2", "frames": 1}],
    }


def test_a_service_that_is_there_only_afterwards_counts() -> None:
    changes = Changes()
    changes.add(batch(frame(1)), decided(NOT_OURS), decided(WEB1))

    assert changes.moves == {Move("pass_not_vip", "web/web1"): 1}


def test_a_batch_is_split_between_frames() -> None:
    whole = batch(frame(1), frame(2), frame(3))

    first, second = whole.split(1)

    assert (first.number, len(first), second.number, len(second)) == (1, 1, 2, 2)
    assert second.frame(0) == frame(2)
    assert [len(part) for part in whole.split(0)] == [len(part) for part in whole.split(3)] == [3]


# The capture's clock


@pytest.mark.parametrize(
    ("times", "seconds"),
    [
        pytest.param([[0, 1, 3]], [0, 1, 3], id="goes on"),
        pytest.param([[5, 6], [8]], [0, 1, 3], id="over two batches"),
        pytest.param([[0, 4, 2, 3, 5]], [0, 4, 4, 4, 5], id="stands still while it goes back"),
        pytest.param([[0, 4], [2, 5]], [0, 4, 4, 5], id="goes back between two batches"),
        pytest.param([[0, 10 * LONGEST_GAP, 10 * LONGEST_GAP + 1]], [0, LONGEST_GAP, LONGEST_GAP + 1], id="leaps"),
    ],
)  # fmt: skip
def test_time_passes_as_in_the_capture(times: list[list[float]], seconds: list[float]) -> None:
    passing = Passing()

    found = [passing.seconds((np.array(batch) * 1e9).astype(np.int64)) for batch in times]

    assert np.concatenate(found).tolist() == pytest.approx(seconds)


# Premises

CONFIGURATION = Configuration.model_validate(
    {
        "interfaces": ["eth0"],
        "services": {
            "web": {
                "listeners": ["192.0.2.10:80/tcp"],
                "backends": {"web1": {"address": "192.0.2.21"}, "web2": {"address": "192.0.2.22"}},
            }
        },
    }
)


def test_all_are_up_but_for_who_is_named() -> None:
    web1, web2 = Premises(down=backends_of(["web/web1"])).plans(CONFIGURATION)["web"].members

    assert (web1.state, web1.accepts, web2.state, web2.accepts) == (State.DOWN, False, State.SERVING, True)


def test_macs_are_made_up_from_addresses() -> None:
    assert made_up_mac(ip_address("192.0.2.21")).hex(":") == "02:00:c0:00:02:15"
    assert made_up_mac(ip_address("2001:db8::21")).hex(":") == "02:06:00:00:00:21"


@pytest.mark.parametrize("name", ["web", "web/", "/web1", "web/web3", "mail/web1"])
def test_a_backend_that_is_not_there_cannot_be_down(name: str) -> None:
    with pytest.raises(InvalidRequestError, match=name):
        Premises(down=backends_of([name])).plans(CONFIGURATION)


def test_of_two_configurations_one_has_to_know_the_backend() -> None:
    nobody = CONFIGURATION.model_copy(update={"services": {}})
    premises = Premises(down=backends_of(["web/web1"]))

    before, after = premises.within(nobody, CONFIGURATION)

    assert (before.down, after.down) == (frozenset(), premises.down)
    with pytest.raises(InvalidRequestError, match="web/web1"):
        premises.within(nobody, nobody)


@pytest.mark.parametrize("text", ["", "02:00:00:00:00", "02:00:00:00:00:01:02", "02:00:00:00:00:0g", "eth0"])
def test_what_is_no_mac_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="is no MAC address"):
        macs_of([text])
