# SPDX-License-Identifier: Apache-2.0
"""What of a capture is played in a lab, and how what backends received is judged."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import ICMPv6ND_NS, IPv6
from scapy.layers.l2 import ARP, Dot1Q, Ether
from scapy.packet import Packet, Raw

from xdpdirector.errors import InvalidRequestError
from xdpdirector.lab.capture_test.command import Options, run_replay
from xdpdirector.lab.capture_test.outcome import Delivery, Outcome, judge
from xdpdirector.lab.capture_test.schedule import Bounds, Score, compose, is_playable
from xdpdirector.lab.capture_test.show import show
from xdpdirector.replay.batch import ROOM, Batch

CLIENT, DIRECTOR = bytes.fromhex("020000000064"), bytes.fromhex("020000000001")
ETHER = Ether(src="02:aa:00:00:00:01", dst="02:aa:00:00:00:02")
SECOND = 1_000_000_000


def request(sport: int, length: int = 0) -> Packet:
    return ETHER / IP(src="198.51.100.7", dst="192.0.2.10") / TCP(sport=sport, dport=80) / Raw(bytes(length))


def batch(frames: list[Packet], times: list[float], cut: int = 0, number: int = 1) -> Batch:
    """`cut`: so many bytes of the last one are not captured."""
    rows = np.zeros((len(frames), ROOM), np.uint8)
    for row, frame in zip(rows, frames, strict=True):
        row[: len(frame)] = np.frombuffer(bytes(frame), np.uint8)
    lengths = np.array([len(frame) for frame in frames])
    captured = lengths.copy()
    captured[-1] -= cut
    return Batch(number, (np.array(times) * SECOND).astype(np.int64), captured, lengths, rows)


def composed(*batches: Batch, bounds: Bounds | None = None) -> Score:
    return compose(batches, bounds or Bounds(), source=CLIENT, destination=DIRECTOR)


def test_requests_are_played_with_the_labs_addresses_and_shortened_pauses() -> None:
    score = composed(batch([request(1), request(2)], [5, 5.1]), batch([request(3)], [99], number=3))

    assert [played.frame for played in score.played] == [
        DIRECTOR + CLIENT + bytes(request(sport))[12:] for sport in (1, 2, 3)
    ]
    assert [played.number for played in score.played] == [1, 2, 3]
    assert [played.due for played in score.played] == [0, SECOND // 10, 3 * SECOND // 10]
    assert (score.left_out, score.is_cut) == (0, False)


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        pytest.param(request(1), True, id="request"),
        pytest.param(request(1, 1460), True, id="as long as can be"),
        pytest.param(request(1, 1461), False, id="too long"),
        pytest.param(
            ETHER / Dot1Q(vlan=7) / request(1, 1460).payload, True, id="as long as can be, with a tag"
        ),
        pytest.param(ETHER / ARP(), False, id="arp"),
        pytest.param(ETHER / IPv6(dst="2001:db8::10") / ICMPv6ND_NS(), False, id="neighbour discovery"),
        pytest.param(Ether(dst="ff:ff:ff:ff:ff:ff") / IP() / UDP(), False, id="broadcast"),
    ],
)
def test_only_requests_are_played(frame: Packet, expected: bool) -> None:
    assert is_playable(bytes(frame)) is expected


def test_what_was_cut_is_not_played() -> None:
    score = composed(batch([request(1), request(2)], [0, 0], cut=1))

    assert (len(score.played), score.left_out) == (1, 1)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        pytest.param(Bounds(frames=2), [1, 2], id="frames"),
        pytest.param(Bounds(seconds=0.25), [1, 2], id="seconds"),
        pytest.param(Bounds(pause=0.1, seconds=0.25), [1, 2, 3], id="pauses"),
    ],
)
def test_a_play_has_bounds(bounds: Bounds, expected: list[int]) -> None:
    score = composed(batch([request(sport) for sport in range(4)], [0, 1, 2, 3]), bounds=bounds)

    assert [played.number for played in score.played] == expected
    assert score.is_cut


A, B, C = (bytes(request(sport)) for sport in (1, 2, 3))
FLOW = "198.51.100.7:{} > 192.0.2.10:80/tcp S"


@pytest.mark.parametrize(
    ("received", "missing", "surplus", "in_order"),
    [
        pytest.param([A, A, B], (), (), True, id="right"),
        pytest.param([A, B], ("packet 1, " + FLOW.format(1),), (), True, id="one of two alike"),
        pytest.param([A, A, B, C], (), (FLOW.format(3),), True, id="one too many"),
        pytest.param([A, B, A], (), (), False, id="another order"),
        pytest.param([C, A, A], ("packet 3, " + FLOW.format(2),), (FLOW.format(3),), True, id="another one"),
        pytest.param([A, A, B[:-1] + b"x"], ("packet 3, " + FLOW.format(2),), (FLOW.format(2),), True, id="byte"),
    ],
)  # fmt: skip
def test_what_a_backend_received_is_judged(
    received: list[bytes], missing: tuple[str, ...], surplus: tuple[str, ...], in_order: bool
) -> None:
    expected = [Delivery(number, frame) for number, frame in enumerate((A, A, B), 1)]

    received = judge("backend1", expected, received)

    assert (received.missing, received.surplus, received.in_order) == (missing, surplus, in_order)
    assert received.is_right is (not missing and not surplus and in_order)


RIGHT = judge("backend1", [Delivery(1, A)], [A])
WRONG = judge("backend2", [Delivery(2, B)], [])


@pytest.mark.parametrize(
    ("outcome", "passed", "said"),
    [
        pytest.param(Outcome(2, 0, False, [RIGHT]), True, "2 frames were played", id="right"),
        pytest.param(Outcome(2, 1, True, [RIGHT]), True, "the capture has more", id="the beginning"),
        pytest.param(Outcome(2, 0, False, [RIGHT, WRONG]), False, "backend2 did not get packet 2", id="wrong"),
        pytest.param(Outcome(2, 0, False, [RIGHT], ["packet 1"]), False, "not as recorded:", id="recorded"),
        pytest.param(Outcome(2, 0, False, [RIGHT], [], 3), False, "3 frames could not be captured", id="unheard"),
        pytest.param(Outcome(0, 5, False, []), False, "nothing was played", id="nothing"),
    ],
)  # fmt: skip
def test_an_outcome_says_whether_all_was_right(outcome: Outcome, passed: bool, said: str) -> None:
    text = io.StringIO()

    show(outcome, Console(file=text, width=100))

    assert outcome.passed is passed
    assert outcome.document()["passed"] is passed
    assert said in text.getvalue()


def test_backends_that_no_lab_has_are_refused_before_anything_is_built(tmp_path: Path) -> None:
    capture, configuration = tmp_path / "capture.pcap", tmp_path / "director.yaml"
    capture.write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000"))
    configuration.write_text(
        "interfaces: [eth0]\nservices: {web: {listeners: ['192.0.2.10:80/tcp'], "
        "backends: {web1: {address: 203.0.113.9}}}}\n"
    )

    with pytest.raises(InvalidRequestError, match=r"'web/web1' has the address 203\.0\.113\.9"):
        run_replay(Options(capture, configuration), print)
