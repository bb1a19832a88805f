# SPDX-License-Identifier: Apache-2.0
"""Captures through the real program: every frame is decided as a director would, at the capture's time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP, fragment
from scapy.layers.l2 import ARP, Dot1Q
from scapy.packet import Packet, Raw
from scapy.utils import PcapWriter

import tests.support.world as w
from tests.support.sizes import REPLAYED
from xdpdirector.model import Configuration, Sizes
from xdpdirector.paths import BPFFS
from xdpdirector.replay import Replay
from xdpdirector.replay.assumptions import Premises
from xdpdirector.replay.capture import Capture
from xdpdirector.replay.dry_run import rehearse
from xdpdirector.replay.flow_diff import Changes, Move
from xdpdirector.replay.outcomes import Decision
from xdpdirector.replay.replay import Results
from xdpdirector.replay.side_by_side import SideBySide

BACKENDS = {"web1": {"address": "192.0.2.21"}, "web2": {"address": "192.0.2.22"}}
MANY = 5000  # are run in one system call

Run = Callable[..., Results]


def configuration(guard: dict[str, object] | None = None, **changes: object) -> Configuration:
    """`rr` over web1 and web2 on port 80 of both VIPs and on 53/udp; `changes` are of the service."""
    listeners = [f"{w.VIP}:80/tcp", f"[{w.VIP6}]:80/tcp", f"{w.VIP}:53/udp"]
    web = {"listeners": listeners, "scheduler": "rr", "backends": BACKENDS} | changes
    return Configuration.model_validate(
        {"interfaces": ["eth0"], "sizes": REPLAYED, "guard": guard or {}, "services": {"web": web}}
    )


@pytest.fixture(scope="module")
def replay() -> Iterator[Replay]:
    with Replay(configuration()) as replay:
        yield replay


@pytest.fixture
def run(replay: Replay, tmp_path: Path) -> Run:
    """Frames at these seconds (each a second after the one before, by default) through that configuration."""

    def run(
        frames: list[Packet | bytes],
        times: list[float] | None = None,
        wanted: Configuration | None = None,
        premises: Premises | None = None,
        cut: int = 65535,
    ) -> Results:
        replay.configuration, replay.premises = wanted or configuration(), premises or Premises()
        return replay.run(written(tmp_path / "capture.pcap", frames, times, cut))

    return run


def written(
    path: Path, frames: list[Packet | bytes], times: list[float] | None = None, cut: int = 65535
) -> Path:
    with PcapWriter(str(path), linktype=1, nano=True) as writer:
        writer.write_header(None)
        for frame, time in zip(frames, times or range(len(frames)), strict=True):
            raw = bytes(frame)
            writer.write_packet(
                raw[:cut], sec=1_700_000_000 + int(time), usec=round(time % 1 * 1e9), wirelen=len(raw)
            )
    return path


def outcomes(results: Results) -> list[str]:
    return [str(decision) for decision in results.decisions]


def test_frames_are_decided_as_by_a_director(run: Run) -> None:
    results = run(
        [w.tcp(sport=1), w.tcp("A", sport=1), w.tcp6(sport=1), w.udp(), w.tcp("A", sport=9), w.tcp(dport=81),
         w.ethernet() / IP(src=w.CLIENT, dst=w.STRANGER) / TCP(), w.ethernet() / ARP()]
    )  # fmt: skip

    assert outcomes(results) == [
        "forward_new web/web1",
        "forward_connection web/web1",
        "forward_new web/web2",
        "forward_new web/web1",
        "reject_unknown web",
        "pass_no_listener",
        "pass_not_vip",
        "pass_not_ip",
    ]
    assert results.summary.verdicts == {"forward": 4, "pass": 3, "reject": 1}


def test_a_frame_changes_nothing_of_the_next(run: Run) -> None:
    """Answers and other VLANs move the frame's begin and its end in the buffer that is used again."""
    answered = w.ethernet() / IP(src=w.CLIENT, dst=w.VIP) / UDP(sport=9, dport=53) / Raw(bytes(1200))
    frames: list[Packet | bytes] = []
    for sport in range(100, 200):
        tagged = w.ethernet() / Dot1Q(vlan=7) / w.tcp(sport=sport).payload
        frames += [answered, w.tcp("A", sport=sport), tagged, w.tcp(sport=sport) / Raw(bytes(3400))]

    results = run(frames, [0.001 * number for number in range(len(frames))], configuration(backends={}))

    assert results.summary.reasons == {"reject_empty": 300, "reject_unknown": 100}


@pytest.mark.parametrize("count", [MANY, 100], ids=["in one call", "one by one"])
def test_every_frame_of_many_is_decided(run: Run, count: int) -> None:
    """And in its order: with `rr`, connections go to the two in turn."""
    frames = [w.tcp(sport=1024 + number) for number in range(100)] * (count // 100)

    results = run(frames, [number / count for number in range(count)])

    assert [each.backend for each in results.decisions[:100]] == ["web1", "web2"] * 50
    assert results.summary.reasons == {
        "forward_new": 100,
        **({"forward_connection": count - 100} if count > 100 else {}),
    }
    assert results.decisions == run(frames, [number / count for number in range(count)]).decisions


@pytest.mark.parametrize(
    ("idle", "expected"),
    [(899, "forward_connection web/web1"), (902, "reject_unknown web")],
    ids=["before", "after"],
)
def test_a_connection_times_out_by_the_captures_clock(run: Run, idle: float, expected: str) -> None:
    results = run([w.tcp(), w.tcp("A"), w.tcp("A")], [0, 1, 1 + idle])

    assert outcomes(results)[-1] == expected


def test_a_connection_that_timed_out_is_not_counted_any_more(run: Run) -> None:
    """As the daemon's sweep sees to it: `lc` gives the idle backend the next ones."""
    opened = [w.tcp(sport=sport) for sport in (1, 2, 3)] + [w.tcp("A", sport=sport) for sport in (1, 3)]
    again = [w.tcp(sport=sport) for sport in (11, 12)]

    results = run(opened + again, [0, 0.1, 0.2, 0.3, 0.4, 10, 10.1], configuration(scheduler="lc"))
    later = run(opened + again, [0, 0.1, 0.2, 0.3, 0.4, 1000, 1000.1], configuration(scheduler="lc"))

    assert [each.backend for each in results.decisions] == [
        "web1",
        "web2",
        "web1",
        "web1",
        "web1",
        "web2",
        "web1",
    ]
    assert [each.backend for each in later.decisions[-2:]] == ["web1", "web2"]


@pytest.mark.parametrize(("pause", "expected"), [(290, "web1"), (310, "web2")], ids=["in time", "too late"])
def test_persistence_goes_by_the_captures_clock(run: Run, pause: float, expected: str) -> None:
    keeps = configuration(persistence={"timeout": "300s"}, timeouts={"syn": "10s"})

    results = run([w.tcp(sport=1), w.tcp(sport=2)], [0, pause], keeps)

    assert results.decisions[-1].backend == expected


def test_limits_go_by_the_captures_clock(run: Run) -> None:
    limited = configuration(limit={"rate": "1/s", "burst": 1})

    results = run([w.tcp(sport=sport) for sport in range(1, 5)], [0, 0.1, 0.2, 1.5], limited)

    assert [each.reason for each in results.decisions] == [
        "forward_new", "drop_limited_service", "drop_limited_service", "forward_new",
    ]  # fmt: skip


def test_who_is_denied_is_denied(run: Run) -> None:
    denying = configuration(guard={"deny": [{"prefix": f"{w.CLIENT}/32"}]})

    assert outcomes(run([w.tcp(), w.tcp6()], None, denying)) == ["drop_denied web", "forward_new web/web1"]


def test_a_backend_that_is_down_gets_nothing(run: Run) -> None:
    down = Premises(down=frozenset({("web", "web1")}))

    results = run([w.tcp(sport=sport) for sport in range(1, 5)], None, None, down)

    assert {each.backend for each in results.decisions} == {"web2"}


def test_a_service_without_backends_refuses(run: Run) -> None:
    assert outcomes(run([w.tcp()], None, configuration(backends={}))) == ["reject_empty web"]


def test_frames_for_other_machines_are_left_alone_when_the_directors_mac_is_known(run: Run) -> None:
    frames = [w.tcp(sport=1), w.ethernet(destination=w.WEB1_MAC) / w.tcp(sport=2).payload]

    known = run(frames, None, None, Premises(own=(w.mac(w.DIRECTOR_MAC),)))

    assert outcomes(known) == ["forward_new web/web1", "drop_other_host"]
    assert outcomes(run(frames)) == ["forward_new web/web1", "forward_new web/web2"]


def test_fragments_and_errors_follow_their_connection(run: Run) -> None:
    datagram = w.ethernet() / IP(src=w.CLIENT, dst=w.VIP, id=7) / UDP(sport=5, dport=53) / Raw(bytes(3000))
    first, second, third = fragment(datagram, 1480)
    quoted = IP(src=w.VIP, dst=w.CLIENT) / UDP(sport=53, dport=5) / Raw(bytes(8))
    error = w.ethernet() / IP(src=w.STRANGER, dst=w.VIP) / ICMP(type=3, code=4) / quoted

    results = run([w.tcp(), first, second, third, error, third])

    assert outcomes(results)[1:5] == [
        "forward_new web/web2", "forward_fragment web/web2", "forward_fragment web/web2", "forward_error web/web2",
    ]  # fmt: skip


def test_connection_ids_lead_clients_that_moved_to_their_backends(run: Run) -> None:
    quic = {"cids": "quic-lb", "length": 1}
    frames = [w.udp(sport=sport, data=b"\x40\0\x16" + bytes(20)) for sport in (1, 2, 2)]
    ids = {
        name: {**backend, "quic_id": raw}
        for (name, backend), raw in zip(BACKENDS.items(), ("15", "16"), strict=True)
    }

    results = run(frames, None, configuration(quic=quic, backends=ids))

    assert outcomes(results) == [
        "forward_cid web/web2",
        "forward_cid web/web2",
        "forward_connection web/web2",
    ]


def test_cut_frames_are_decided_by_their_headers(run: Run) -> None:
    results = run([w.tcp() / Raw(bytes(1000)), w.tcp("A") / Raw(bytes(1000))], cut=60)

    assert outcomes(results) == ["forward_new web/web1", "forward_connection web/web1"]
    assert results.summary.cut == 2


def test_frames_without_all_their_headers_are_not_decided(run: Run) -> None:
    results = run([w.tcp() / Raw(bytes(1000)), w.ethernet() / ARP()], cut=50)

    assert outcomes(results) == ["unread_cut", "pass_not_ip"]
    assert results.summary.verdicts == {"unread": 1, "pass": 1}


def test_frames_longer_than_any_network_card_sends_are_decided(run: Run) -> None:
    """As segmentation offload leaves them in captures."""
    results = run([w.tcp(), w.tcp("A") / Raw(bytes(40_000)), w.udp(data=bytes(20_000))])

    assert outcomes(results)[1:] == ["forward_connection web/web1", "forward_new web/web2"]
    assert results.summary.shortened == 2


def test_every_capture_meets_a_director_that_had_no_packet_yet(run: Run) -> None:
    ring, stored = configuration(scheduler="mh"), configuration()
    frames = [w.tcp(), w.tcp("A"), w.udp()]

    first = run(frames, None, stored)
    run(frames, None, ring)

    assert run([w.tcp("A")], None, stored).decisions == (Decision("reject_unknown", "web"),)
    assert run(frames, None, stored).decisions == first.decisions


def test_frames_leave_as_they_will() -> None:
    alone = configuration(backends={"web1": BACKENDS["web1"]})
    premises = Premises(macs={w.WEB1.address: w.mac(w.WEB1_MAC)}, director=w.mac(w.DIRECTOR_MAC))

    (new, left), (refused, answer) = rehearse(
        alone, premises, [bytes(w.tcp()), bytes(w.tcp("A", sport=9))], [0, 1]
    )

    assert (str(new), left) == ("forward_new web/web1", w.to("web1", w.tcp()))
    assert (refused.reason, answer[:6]) == ("reject_unknown", w.mac(w.ROUTER_MAC))


# Another configuration

FLOWS = [w.tcp(sport=sport) for sport in range(1, 41)] + [w.tcp("A", sport=sport) for sport in range(1, 41)]
DRAINED = BACKENDS | {"web2": BACKENDS["web2"] | {"admin": "drain"}}
CUT_OFF = BACKENDS | {"web2": BACKENDS["web2"] | {"admin": "maintenance"}}


@pytest.fixture(scope="module")
def both() -> Iterator[SideBySide]:
    """The second has other sizes."""
    with SideBySide(configuration(), configuration().model_copy(update={"sizes": Sizes()})) as both:
        yield both


def changed(both: SideBySide, place: Path) -> Changes:
    changes = Changes()
    with Capture(written(place / "capture.pcap", FLOWS)) as capture:
        for piece in both.judge(capture):
            changes.add(piece.batch, piece.before, piece.after)
    return changes


@pytest.mark.parametrize(
    ("after", "at", "moves"),
    [
        pytest.param(configuration(), None, {}, id="the same"),
        pytest.param(configuration(backends=DRAINED), None, {Move("web/web2", "web/web1"): 20}, id="drained"),
        pytest.param(configuration(backends=DRAINED), 39.5, {}, id="drained when all run"),
        pytest.param(
            configuration(backends=DRAINED), 19.5, {Move("web/web2", "web/web1"): 10}, id="drained half-way"
        ),
        pytest.param(
            configuration(backends=CUT_OFF), 39.5, {Move("web/web2", "reject_down"): 20}, id="cut off"
        ),
        pytest.param(configuration(backends=CUT_OFF), 1000, {}, id="after the end"),
    ],
)
def test_flows_that_would_move_are_counted(
    both: SideBySide, tmp_path: Path, after: Configuration, at: float | None, moves: dict[Move, int]
) -> None:
    both.after, both.at = after, at

    changes = changed(both, tmp_path)

    assert changes.moves == moves
    assert len(changes.flows) == 40


def test_nothing_of_it_is_on_the_machine(replay: Replay) -> None:
    assert replay.configuration
    assert not list(BPFFS.glob("xdpdirector/replay*"))
    assert not list(Path("/run/xdpdirector").glob("replay*"))


def test_a_replay_lets_go_of_everything(replay: Replay) -> None:
    assert replay.configuration

    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    with Replay(configuration()):
        assert descriptors() > before

    assert descriptors() == before
