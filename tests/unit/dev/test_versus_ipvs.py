# SPDX-License-Identifier: Apache-2.0
"""The account of the director beside IPVS: what is net, what is judged, and its three forms."""

from __future__ import annotations

import json
from dataclasses import asdict
from io import StringIO

import pytest
from rich.console import Console

from dev.bench.baselines import REWRITE_ONLY
from dev.versus_ipvs import show
from dev.versus_ipvs.account import (
    DROPPED,
    ESTABLISHED,
    NEW,
    Account,
    Figure,
)
from dev.versus_ipvs.command import figures
from xdpdirector.lab.errors import LabError

REFERENCE = 700.0
FLOWS = (1, 1 << 14)


def account(mh: float = 500.0, wlc: float = 600.0, ipvs: float = 5000.0) -> Account:
    """Net costs of established flows; new flows cost twice as much."""
    targets = {"XDP Director mh": mh, "XDP Director wlc": wlc, "IPVS mh": ipvs, "IPVS wlc": ipvs}
    found = [Figure(DROPPED, ESTABLISHED, 1, [REFERENCE + 9, REFERENCE])]
    found.append(Figure(REWRITE_ONLY, ESTABLISHED, 1, [REFERENCE + 331]))
    for name, net in targets.items():
        found += [
            Figure(name, ESTABLISHED, flows, [REFERENCE + net + 50, REFERENCE + net]) for flows in FLOWS
        ]
        found.append(Figure(name, NEW, 1 << 16, [REFERENCE + 2 * net]))
    return Account(found, "6.1.0-56-amd64")


def shown(what: Account) -> str:
    text = StringIO()
    show.show(what, Console(file=text, width=160))
    return text.getvalue()


def test_net_is_the_least_without_the_harness() -> None:
    whole = account()

    assert whole.reference == REFERENCE
    assert whole.net(whole.find("XDP Director wlc", ESTABLISHED, 1)) == 600


@pytest.mark.parametrize(
    ("mh", "wlc", "worst", "met"),
    [
        pytest.param(500.0, 625.0, 8.0, True, id="just"),
        pytest.param(500.0, 626.0, 7.99, False, id="one scheduler misses it"),
        pytest.param(250.0, 250.0, 20.0, True, id="by far"),
    ],
)
def test_the_worst_of_established_flows_is_judged(mh: float, wlc: float, worst: float, met: bool) -> None:
    whole = account(mh, wlc)

    assert whole.worst == pytest.approx(worst, abs=0.005)
    assert whole.met is met
    assert whole.document()["target"]["met"] is met


def test_new_flows_have_a_column_and_are_not_judged() -> None:
    whole = account()

    assert whole.columns == [(ESTABLISHED, 1), (ESTABLISHED, 1 << 14), (NEW, 1 << 16)]
    assert whole.ratio("mh", NEW, 1 << 16) == 10


def test_the_tables_tell_all() -> None:
    text = shown(account())

    lines = [line.split() for line in text.splitlines()]
    assert ["XDP", "Director", "mh", "500", "500", "1,000"] in lines
    assert ["XDP", "Director", "wlc", "600", "600", "1,200"] in lines
    assert ["wlc", "8.3", "8.3", "8.3"] in lines
    assert "net of 700" in text
    assert "8.3, met" in text


def test_what_the_guest_says_becomes_the_same_figures() -> None:
    whole = account()

    assert figures(json.dumps([asdict(figure) for figure in whole.figures])) == list(whole.figures)


@pytest.mark.parametrize("text", ["", "Killed", '[{"who": "nobody"}]', "{}", "[1]"])
def test_what_is_no_account_is_refused(text: str) -> None:
    with pytest.raises(LabError, match="no account"):
        figures(text)


def test_the_plot_has_a_line_for_each_contestant() -> None:
    drawn = show.svg(account())

    assert drawn.count("<path") >= 4
    assert "IPVS wlc" in drawn
    assert REWRITE_ONLY not in drawn
