# SPDX-License-Identifier: Apache-2.0
"""What `./lab package --try` concludes from the packets that client and backends counted; its machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dev.package.account import account
from dev.package.lock import PYTHONS
from dev.vm import qemu

TALK = {"by": ["backend1"], "lines": 9, "error": ""}
SENT: dict[str, Any] = {
    "flows": 2,
    "each": 100,
    "seconds": 0.2,
    "late": 0.01,
    "refused": 0,
    "talks": [TALK, TALK],
}


def backends(*flows: dict[str, list[list[int]]]) -> list[dict[str, Any]]:
    """What each of them got, by flow."""
    return [{"name": f"backend{number}", "flows": got} for number, got in enumerate(flows, 1)]


WHOLE = [[0, 99]]


def test_all_arrived_each_flow_at_one_backend() -> None:
    counted = account(SENT, backends({"0": WHOLE}, {"1": WHOLE}))

    assert (counted.sent, counted.lost, counted.problems) == (200, 0, ())
    assert "200 datagrams in 0 s (1000 a second" in str(counted)


@pytest.mark.parametrize(
    ("received", "problem"),
    [
        (backends({"0": WHOLE}, {"1": [[0, 49], [51, 99]]}), "1 datagrams did not arrive"),
        (backends({"0": WHOLE}, {}), "flow 1 was seen at no backend"),
        (
            backends({"0": [[0, 49]]}, {"0": [[50, 99]], "1": WHOLE}),
            "flow 0 was seen at backend1 and backend2",
        ),
    ],
    ids=["one is missing", "a flow is missing", "a flow moved"],
)
def test_what_went_wrong_is_said(received: list[dict[str, Any]], problem: str) -> None:
    assert problem in account(SENT, received).problems


@pytest.mark.parametrize(
    "talk",
    [
        {**TALK, "error": "ConnectionResetError: reset"},
        {**TALK, "by": ["backend1", "backend2"]},
        {**TALK, "by": []},
    ],
    ids=["broke", "moved", "never began"],
)
def test_a_conversation_must_go_on_with_whom_it_began(talk: dict[str, Any]) -> None:
    counted = account({**SENT, "talks": [TALK, talk]}, backends({"0": WHOLE}, {"1": WHOLE}))

    assert len(counted.problems) == 1
    assert "a conversation with" in counted.problems[0]


@pytest.mark.parametrize("reboots", [True, False])
def test_a_machine_that_may_reboot_outlives_it(reboots: bool) -> None:
    place = Path("/image")
    machine = qemu.Machine(place, place, place, place, 20022, qemu.Shape(reboots=reboots))

    assert ("-no-reboot" in qemu.command(machine)) is not reboots


def test_all_who_name_the_releases_of_python_name_the_same() -> None:
    debian = Path(__file__).parents[3] / "debian"
    first, last = PYTHONS[0], PYTHONS[-1]
    after = f"3.{int(last.removeprefix('3.')) + 1}"

    assert f"pythons = {' '.join(PYTHONS)}\n" in (debian / "rules").read_text()
    assert (debian / "control").read_text().count(f"python3 (>= {first}), python3 (<< {after})") == 2
