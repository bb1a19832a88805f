# SPDX-License-Identifier: Apache-2.0
"""Frames that are lost on their way out are told, with the remedy, and forgotten when it is over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from tests.support.stage import Stage, service, story
from xdpdirector.net import veth_peer
from xdpdirector.net.driver_stats import lost
from xdpdirector.net.tx_losses import LASTS, PEERS_APART, Losses


@pytest.mark.parametrize(
    ("names", "count"),
    [
        pytest.param(["rx_queue_0_xdp_tx_errors", "tx_queue_0_xdp_xmit_errors"], 2, id="veth"),
        pytest.param(["tx0_xdp_tx_drops", "tx1_xdp_tx_drops"], 2, id="virtio_net"),
        pytest.param(["rx_xdp_tx_full", "rx_xdp_tx_err", "tx_xdp_full", "tx_xdp_err"], 4, id="mlx5"),
        pytest.param(["rx_xdp_tx_errors", "tx_xdp_xmit_errors"], 2, id="mvneta"),
        pytest.param(["rx_xdp_drop", "rx_queue_0_xdp_drops", "rx0_xdp_drops"], None, id="dropped on purpose"),
        pytest.param(["rx_xdp_tx", "tx_xdp_xmit", "rx_xdp_redirect", "rx_xdp_packets"], None, id="well sent"),
        pytest.param(["tx_errors", "rx_dropped"], None, id="nothing of XDP"),
        pytest.param([], None, id="nothing"),
    ],
)
def test_what_counts_as_lost(names: list[str], count: int | None) -> None:
    assert lost([(name, 1) for name in names]) == count


class Card:
    """eth0, as a test has it."""

    def __init__(self) -> None:
        self.errors: int | None = 5
        self.fault = ""
        self.asked = 0
        self.losses = Losses(self._count, self._look)

    def _count(self, names: Iterable[str]) -> Mapping[str, int]:
        return {} if self.errors is None else dict.fromkeys(names, self.errors)

    def _look(self, name: str) -> str:
        self.asked += 1
        return self.fault

    def look(self, now: float, mode: str = "native") -> list[str]:
        self.losses.look({"eth0": mode}, now)
        return self.losses.problems()


def test_what_was_lost_before_is_no_problem() -> None:
    card = Card()

    assert card.look(0.0) == card.look(1.0) == []
    assert card.losses.counts() == {"eth0": 5}


def test_a_loss_is_a_problem_for_a_while() -> None:
    card = Card()
    card.look(0.0)
    card.errors = 6

    [problem] = card.look(1.0)

    assert "interface eth0 loses what is sent on" in problem
    assert "ethtool -S eth0" in problem
    assert card.look(LASTS) == [problem]
    assert card.look(LASTS + 2) == []
    card.errors = 7
    assert card.look(LASTS + 3) == [problem]


@pytest.mark.parametrize("errors", [None, 0], ids=["nothing is told any more", "it counts from 0 again"])
def test_an_interface_that_was_made_anew_has_lost_nothing(errors: int | None) -> None:
    card = Card()
    card.look(0.0)
    card.errors = 9
    card.look(1.0)
    card.errors = errors

    assert card.look(2.0) == []


def test_a_veth_in_native_mode_is_told_what_its_peer_lacks() -> None:
    card = Card()
    card.fault = "its peer p0 has no XDP program"

    [problem] = card.look(0.0)

    assert "veth in native mode" in problem
    assert "p0 has no XDP program" in problem
    assert "XDP_PASS is enough" in problem
    assert "tx off" in problem
    assert "mode: generic" in problem
    card.fault = ""
    assert card.look(1.0) == [problem]
    assert card.look(PEERS_APART) == []


@pytest.mark.parametrize(("mode", "fault"), [("generic", "anything"), ("native", veth_peer.UNSEEN)])
def test_what_is_not_known_or_does_not_matter_is_no_problem(mode: str, fault: str) -> None:
    card = Card()
    card.fault = fault

    assert card.look(0.0, mode) == []


def test_peers_are_looked_at_seldom() -> None:
    card = Card()
    for second in range(int(PEERS_APART)):
        card.look(float(second))

    assert card.asked == 1


@story
async def test_what_drivers_count_is_shown_with_the_interface() -> None:
    async with Stage(web=service("web1")) as stage:
        stage.carriers.errors = {"eth0": 7}

        [eth0] = stage.director.vitals().attachments

        assert eth0.transmit_errors == 7
