# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector replay` as a shell sees it: what it prints, what it writes, how it ends."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from scapy.utils import RawPcapNgReader, wrpcap

import tests.support.world as w
from xdpdirector.paths import BPFFS

CONFIGURATION = """\
interfaces: [eth0]
sizes: {connections: 4096, connections6: 1024, ring_slots: 65536}
services:
  web:
    listeners: ["192.0.2.10:80/tcp"]
    scheduler: rr
    backends:
      web1: {address: 192.0.2.21}
      web2: {address: 192.0.2.22}
"""
FRAMES = [w.tcp(sport=sport) for sport in (1, 2, 3, 4)] + [w.tcp("A", sport=1), w.udp()]


def replay(*arguments: str | Path, before: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*before, sys.executable, "-m", "xdpdirector", "replay", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With a capture, a configuration, and another one that drains web2."""
    place = tmp_path_factory.mktemp("replay")
    for number, frame in enumerate(FRAMES):
        frame.time = 1_700_000_000 + number
    wrpcap(str(place / "capture.pcap"), FRAMES)
    (place / "broken.pcap").write_bytes((place / "capture.pcap").read_bytes()[:-1])
    (place / "director.yaml").write_text(CONFIGURATION)
    (place / "drained.yaml").write_text(CONFIGURATION.replace("192.0.2.22}", "192.0.2.22, admin: drain}"))
    return place


def test_a_recording_is_what_is_expected_until_something_changes(place: Path) -> None:
    # given
    recording, commented = place / "expected.jsonl", place / "commented.pcapng"
    common = (place / "capture.pcap", "--config", place / "director.yaml")

    # when
    recorded = replay(*common, "--record", recording, "--write", commented)
    same = replay(*common, "--expect", recording, "--packets", "-o", "json")
    other = replay(*common, "--expect", recording, "--down", "web/web2", "--reason", "pass", "-p")

    # then
    assert (recorded.returncode, recorded.stderr) == (0, "")
    assert recorded.stdout.startswith("6 frames in 5.000 s of the capture\n")
    assert "forward  forward_new              4" in recorded.stdout
    with RawPcapNgReader(str(commented)) as reader:
        found = [(frame, meta.comments) for frame, meta in reader]
    assert found[0] == (bytes(FRAMES[0]), [b"forward_new web/web1"])
    assert len(found) == len(FRAMES)

    assert same.returncode == 0
    *packets, last = same.stdout.splitlines()
    assert packets == recording.read_text().splitlines()[1:]
    assert json.loads(last)["summary"]["verdicts"] == {"forward": 5, "pass": 1}
    assert json.loads(last)["summary"]["differing"] == 0

    assert other.returncode == 1
    assert (
        other.stdout.count("pass_not_vip") + other.stdout.count("pass_no_listener") == 2
    )  # line and summary
    assert "2 packets not as expected:" in other.stdout
    assert "packet 2, 192.0.2.100:2 > 192.0.2.10:80/tcp S: forward_new web/web2 was expected" in other.stdout


def test_another_configuration_moves_flows(place: Path) -> None:
    done = replay(place / "capture.pcap", "-c", place / "director.yaml", "--diff", place / "drained.yaml")

    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == (
        "2 of 4 flows would go elsewhere\n\nFLOWS  FROM      TO\n    2  web/web2  web/web1\n"
    )


def test_what_was_good_before_a_fault_is_reported(place: Path) -> None:
    recording = place / "broken.jsonl"

    done = replay(place / "broken.pcap", "-c", place / "director.yaml", "-o", "json", "--record", recording)

    assert done.returncode == 2
    assert json.loads(done.stdout)["frames"] == len(FRAMES) - 1
    assert f"packet {len(FRAMES)} cannot be read: truncated dump file" in done.stderr
    assert not recording.exists()
    assert not list(place.glob("*.new"))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["missing.pcap"], "missing.pcap cannot be opened: No such file", id="no capture"),
        pytest.param(["director.yaml"], "unknown file format", id="not a capture"),
        pytest.param(["capture.pcap", "--down", "web/web9"], "no backend 'web/web9'", id="no such backend"),
        pytest.param(["capture.pcap", "--mac", "eth0"], "is no MAC address", id="no MAC"),
        pytest.param(["capture.pcap", "--expect", "missing.jsonl"], "cannot be read", id="no recording"),
        pytest.param(["capture.pcap", "--record", "no/where.jsonl"], "cannot be written", id="nowhere"),
        pytest.param(["capture.pcap", "--at", "3"], "name one", id="at without diff"),
        pytest.param(["capture.pcap", "--diff", "drained.yaml", "--packets"], "use one of them", id="both"),
        pytest.param(["capture.pcap", "--diff", "missing.yaml"], "missing.yaml", id="no other configuration"),
    ],
)
def test_what_cannot_be_done_is_refused_at_once(place: Path, arguments: list[str], said: str) -> None:
    files = [
        place / each if "." in each or ("/" in each and "web/" not in each) else each for each in arguments
    ]

    done = replay(*files, "--config", place / "director.yaml")

    assert done.returncode == 2
    assert said in " ".join(done.stderr.split())
    assert done.stdout == ""


ENOUGH = {"bpf", "net_admin", "perfmon"}


def only(capabilities: set[str]) -> list[str]:
    """The front of a command line: with these and no others, and no way to others."""
    names = ",".join(["-all", *(f"+{name}" for name in sorted(capabilities))])
    return ["setpriv", f"--inh-caps={names}", f"--bounding-set={names}", "--no-new-privs", "--"]


def left() -> set[Path]:
    """Pins and files of instances."""
    return {path for place in (BPFFS, Path("/run")) for path in place.glob("xdpdirector/**/*replay*")}


def test_three_capabilities_are_enough_where_a_bpffs_is_mounted(place: Path) -> None:
    """As in a container: docs/replay.md. Two programs are there at once, for --diff."""
    common = (place / "capture.pcap", "--config", place / "director.yaml", "-o", "json")
    usual = replay(*common)
    before = left()

    done = replay(*common, before=only(ENOUGH))
    compared = replay(*common, "--diff", place / "drained.yaml", before=only(ENOUGH))

    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == json.loads(usual.stdout)
    assert compared.returncode == 1, compared.stderr  # there are differences
    assert left() == before


@pytest.mark.parametrize("lacking", sorted(ENOUGH))
def test_without_one_of_the_three_it_says_what_it_needs(place: Path, lacking: str) -> None:
    done = replay(
        place / "capture.pcap", "--config", place / "director.yaml", before=only(ENOUGH - {lacking})
    )

    assert done.returncode == 6
    assert "give CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON" in done.stderr


def test_without_a_bpffs_it_asks_for_one(place: Path) -> None:
    hidden = ["unshare", "--mount", "sh", "-c", 'umount /sys/fs/bpf && exec "$@"', "sh", *only(ENOUGH)]

    done = replay(place / "capture.pcap", "--config", place / "director.yaml", before=hidden)

    assert done.returncode == 6
    assert "mount a bpffs on /sys/fs/bpf, as a volume of the container" in done.stderr
