# SPDX-License-Identifier: Apache-2.0
"""Captures of every kind, whole and broken: what is good before a fault is read, and the fault has its number."""

from __future__ import annotations

import gzip
import os
import struct
import threading
from io import BytesIO
from pathlib import Path

import pytest

from xdpdirector.errors import CaptureError
from xdpdirector.replay.capture import Capture
from xdpdirector.replay.libpcap import LATEST
from xdpdirector.replay.pcapng import Writer

FRAMES = [
    bytes([2, *bytes(11), 8, 0]) + bytes([number]) * length for number, length in enumerate((1, 46, 300))
]
TIMES = [1_700_000_000_000_000_000, 1_700_000_000_250_000_000, 1_700_000_003_000_001_000]
ETHERNET, RAW_IP, WIFI = 1, 101, 105
HEADER, PACKET = 24, 16


def pcap(order: str = "<", *, nanoseconds: bool = False, kind: int = ETHERNET) -> bytes:
    unit = 1 if nanoseconds else 1000
    made = struct.pack(f"{order}IHHiIII", 0xA1B23C4D if nanoseconds else 0xA1B2C3D4, 2, 4, 0, 0, 65535, kind)
    for time, frame in zip(TIMES, FRAMES, strict=True):
        seconds, rest = divmod(time, 1_000_000_000)
        made += struct.pack(f"{order}IIII", seconds, rest // unit, len(frame), len(frame)) + frame
    return made


def pcapng() -> bytes:
    file = BytesIO()
    writer = Writer(file)
    for time, frame in zip(TIMES, FRAMES, strict=True):
        writer.packet(frame, len(frame), time / 1e9, "eth0", "a comment")
    return file.getvalue()


def read(path: Path, most: int = 2) -> tuple[list[tuple[int, int, bytes]], CaptureError | None]:
    """Number, time and frame of each packet, and how it ended."""
    found = []
    try:
        with Capture(path) as capture:
            for batch in capture.batches(most):
                found += [
                    (batch.number + place, int(batch.times[place]), batch.frame(place))
                    for place in range(len(batch))
                ]
    except CaptureError as error:
        return found, error
    return found, None


WHOLE = list(zip(range(1, 4), TIMES, FRAMES, strict=True))

KINDS = pytest.mark.parametrize(
    "content",
    [
        pytest.param(pcap(), id="pcap, little-endian, microseconds"),
        pytest.param(pcap(">"), id="pcap, big-endian, microseconds"),
        pytest.param(pcap(nanoseconds=True), id="pcap, little-endian, nanoseconds"),
        pytest.param(pcap(">", nanoseconds=True), id="pcap, big-endian, nanoseconds"),
        pytest.param(pcapng(), id="pcapng"),
        pytest.param(gzip.compress(pcap()), id="pcap, gzipped"),
        pytest.param(gzip.compress(pcapng()), id="pcapng, gzipped"),
    ],
)


@KINDS
@pytest.mark.parametrize("most", [1, 2, 3, 100])
def test_a_capture_is_read(tmp_path: Path, content: bytes, most: int) -> None:
    path = tmp_path / "capture"
    path.write_bytes(content)

    found, error = read(path, most)

    assert error is None
    assert found == WHOLE


def complete(length: int) -> int:
    """How many packets of `pcap()` are whole in its first bytes."""
    at, count = HEADER, 0
    for frame in FRAMES:
        at += PACKET + len(frame)
        count += length >= at
    return count


def test_a_pcap_that_was_cut_anywhere_gives_what_is_good(tmp_path: Path) -> None:
    # given
    path, content = tmp_path / "capture", pcap()
    ends = {HEADER + sum(PACKET + len(frame) for frame in FRAMES[:count]) for count in range(4)}

    for length in range(len(content) + 1):
        # when
        path.write_bytes(content[:length])
        found, error = read(path)

        # then
        assert found == WHOLE[: complete(length)]
        if length in ends:
            assert error is None
        else:
            assert error is not None
            assert error.number == (complete(length) + 1 if length > HEADER else None)


SECTION, INTERFACE, ENHANCED = 0x0A0D0D0A, 1, 6


def block(order: str, kind: int, body: bytes) -> bytes:
    """A block of a pcapng file (draft-ietf-opsawg-pcapng)."""
    body += bytes(-len(body) % 4)
    size = len(body) + 12
    return struct.pack(f"{order}II", kind, size) + body + struct.pack(f"{order}I", size)


def section(order: str, *snaplens: int, time: int = 0) -> bytes:
    """With an interface for each snapshot length, and one packet on the last of them; `time` in microseconds."""
    made = block(order, SECTION, struct.pack(f"{order}IHHq", 0x1A2B3C4D, 1, 0, -1))
    for snaplen in snaplens:
        made += block(order, INTERFACE, struct.pack(f"{order}HHI", ETHERNET, 0, snaplen))
    head = struct.pack(
        f"{order}IIIII", len(snaplens) - 1, time >> 32, time & 0xFFFFFFFF, len(FRAMES[1]), len(FRAMES[1])
    )
    return made + block(order, ENHANCED, head + FRAMES[1])


@pytest.mark.parametrize(
    ("content", "number"),
    [
        pytest.param(section("<", 65535, 256), 1, id="interfaces of other snapshot lengths"),
        pytest.param(section("<", 65535) + section(">", 65535), 2, id="sections of other byte orders"),
    ],
)
def test_what_libpcap_cannot_read_is_told_with_its_packet_and_a_remedy(
    tmp_path: Path, content: bytes, number: int
) -> None:
    path = tmp_path / "capture"
    path.write_bytes(content)

    found, error = read(path)

    assert len(found) == number - 1
    assert error is not None
    assert f"packet {number} cannot be read" in error.detail
    assert "editcap -F pcap" in error.detail


@pytest.mark.parametrize("time", [(1 << 63) - 1, (1 << 63) // 1000 + 1, (1 << 64) - 1])
def test_a_time_that_is_far_out_is_the_latest_that_there_is(tmp_path: Path, time: int) -> None:
    path = tmp_path / "capture"
    path.write_bytes(section("<", 65535, time=time))

    found, error = read(path)

    assert error is None
    [(number, when, frame)] = found
    assert (number, frame) == (1, FRAMES[1])
    assert when == LATEST


@pytest.mark.parametrize("content", [pcapng(), gzip.compress(pcap())], ids=["pcapng", "gzip"])
def test_others_that_were_cut_anywhere_give_no_packet_that_is_wrong(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "capture"
    for length in range(len(content)):
        path.write_bytes(content[:length])
        found, error = read(path)

        assert found == WHOLE[: len(found)]
        assert error is not None or content == pcapng()  # a pcapng may end behind any of its blocks
        if error and error.number is not None:
            assert error.number == len(found) + 1


def test_a_fault_is_told_with_its_packet(tmp_path: Path) -> None:
    path = tmp_path / "capture.pcap"
    path.write_bytes(pcap()[:-1])

    _, error = read(path)

    assert str(error).startswith(f"{path}: packet 3 cannot be read: truncated dump file")
    assert str(error).endswith("; 2 before it are good")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param(b"", "truncated dump file", id="empty"),
        pytest.param(b"interfaces: [eth0]\nservices: {}\n", "unknown file format", id="text"),
        pytest.param(pcap(kind=WIFI), "802.11", id="wireless"),
        pytest.param(pcap(kind=RAW_IP), "only Ethernet frames can be replayed", id="without Ethernet"),
        pytest.param(gzip.compress(b"no capture, but long enough"), "unknown file format", id="gzipped text"),
        pytest.param(b"\x1f\x8b" + bytes(40), "gzip", id="no gzip"),
    ],
)
def test_what_is_no_capture_of_ethernet_frames_is_refused(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "capture"
    path.write_bytes(content)

    found, error = read(path)

    assert found == []
    assert error is not None
    assert error.exit_code == 2
    assert said in str(error)


@pytest.mark.parametrize(("name", "said"), [("missing", "No such file"), (".", "is a directory")])
def test_a_file_that_cannot_be_opened_is_named(tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(CaptureError, match=said):
        Capture(tmp_path / name)


@KINDS
def test_what_comes_through_a_pipe_is_read(tmp_path: Path, content: bytes) -> None:
    """As from tcpdump; its size is not known."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = threading.Thread(target=path.write_bytes, args=(content,))
    writer.start()

    found, error = read(path)

    writer.join()
    assert (found, error) == (WHOLE, None)


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_capture_that_is_left_early_lets_go_of_everything(tmp_path: Path) -> None:
    path = tmp_path / "capture.gz"
    path.write_bytes(gzip.compress(pcap() + pcap()[HEADER:] * 1000))
    before = descriptors()

    with Capture(path) as capture:
        batches = capture.batches(1)
        next(batches)
        batches.close()

    assert descriptors() == before
