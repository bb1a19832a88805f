# SPDX-License-Identifier: Apache-2.0
"""What a veth's peer lacks for native XDP. How that is found out is tested with real ones, where the program is
attached (tests/namespaces)."""

from __future__ import annotations

import os

import pytest

from xdpdirector.net import veth_peer
from xdpdirector.net.veth_peer import (
    READY,
    Peer,
    fault,
    note_ready,
    remedy,
)


@pytest.mark.parametrize(
    ("peer", "why"),
    [
        pytest.param(Peer("p0", has_program=True, checksums=False), "", id="ready"),
        pytest.param(Peer("p0", has_program=False, checksums=False), "p0 has no XDP program", id="program"),
        pytest.param(Peer("p0", has_program=True, checksums=True), "p0 leaves checksums", id="checksums"),
        pytest.param(Peer("p0", has_program=False, checksums=True), "p0 has no XDP program", id="neither"),
        pytest.param(Peer("p0", has_program=True, checksums=None), "", id="nobody tells of checksums"),
    ],
)
def test_a_peer_needs_both(peer: Peer, why: str) -> None:
    assert (why in peer.fault) if why else not peer.fault


def test_both_remedies_are_told() -> None:
    words = remedy("eth0", "p0")

    assert "XDP_PASS" in words
    assert "ethtool -K p0 tx off" in words
    assert "mode: generic" in words


@pytest.mark.parametrize("name", ["lo", "none0"])
def test_what_is_no_veth_has_no_such_fault(name: str) -> None:
    assert fault(name) == ""


def test_what_root_saw_is_handed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(READY, "")
    monkeypatch.setattr(veth_peer, "fault", {"eth0": "", "eth1": veth_peer.UNSEEN}.__getitem__)

    note_ready(["eth0", "eth1"])

    assert os.environ[READY] == "eth0"
