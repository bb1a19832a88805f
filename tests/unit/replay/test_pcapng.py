# SPDX-License-Identifier: Apache-2.0
"""Captures, read back by somebody else's reader."""

from __future__ import annotations

from io import BytesIO

import pytest
from scapy.utils import RawPcapNgReader

from xdpdirector.replay.pcapng import Writer

FRAME = bytes.fromhex("0200000000210200000000010800") + bytes(31)


def test_a_capture_has_the_packets_of_all_interfaces_with_comments() -> None:
    # given
    file = BytesIO()
    writer = Writer(file)

    # when
    writer.packet(FRAME, 1514, 1_700_000_000.25, "eth0", "forward_new web/web1")
    writer.packet(FRAME[:15], 15, 1_700_000_001.0, "eth1")
    writer.packet(FRAME, 45, 1_700_000_002.000001, "eth0", "drop_denied web")

    # then
    file.seek(0)
    with RawPcapNgReader(file) as reader:
        found = [(frame, meta) for frame, meta in reader]
        names = [options.get("name") for _, _, options in reader.interfaces]
    assert [frame for frame, _ in found] == [FRAME, FRAME[:15], FRAME]
    assert [meta.wirelen for _, meta in found] == [1514, 15, 45]
    assert [(meta.tshigh << 32 | meta.tslow) / 1e9 for _, meta in found] == pytest.approx(
        [1_700_000_000.25, 1_700_000_001.0, 1_700_000_002.000001], rel=0, abs=1e-6
    )
    assert [meta.comments for _, meta in found] == [[b"forward_new web/web1"], None, [b"drop_denied web"]]
    assert names == [b"eth0", b"eth1"]
