# SPDX-License-Identifier: Apache-2.0
"""What `top` makes of two looks: rates, and a screen that fits."""

from __future__ import annotations

import pytest

from xdpdirector.cli import rates, top
from xdpdirector.cli.render import terminal


def snapshot(at: float, packets: dict[str, int], *, services: int = 1, name: str = "web") -> rates.Snapshot:
    """So many services of as many backends as there are `packets`, all with the same counters."""
    backends = [
        {
            "name": backend,
            "admin": "enabled",
            "operational": "up",
            "connections": {"active": count // 100, "inactive": 0},
            "traffic": {"packets": count, "bytes": 100 * count, "connections": count // 10},
        }
        for backend, count in packets.items()
    ]
    return rates.Snapshot(
        at,
        {"ready": True, "problems": [], "revision": 3},
        {
            "attachments": [{"interface": "eth0", "mode": "native", "program_id": 42}],
            "connections": 12345,
            "verdicts": {"forward_new": sum(packets.values()), "drop_denied": 7 * int(at), "pass_not_ip": 0},
        },
        [
            {"name": f"{name}{number or ''}", "operational": "up", "backends": backends}
            for number in range(services)
        ],
    )


def drawn(before: rates.Snapshot, after: rates.Snapshot, width: int = 80, height: int = 24) -> list[str]:
    console = terminal(width)
    with console.capture() as capture:
        for part in top.screen("edge", before, after, width, height):
            console.print(part)
    return [line.rstrip() for line in capture.get().splitlines()]


def test_rates_are_what_is_new_a_second() -> None:
    # when
    found = rates.between(
        snapshot(10, {"web1": 1000, "web2": 0}), snapshot(12, {"web1": 1500, "web2": 200, "web3": 20})
    )

    # then
    assert found.backends == {
        ("web", "web1"): rates.Rate(250.0, 200_000.0, 25.0),
        ("web", "web2"): rates.Rate(100.0, 80_000.0, 10.0),
        ("web", "web3"): rates.Rate(10.0, 8_000.0, 1.0),
    }
    assert found.total == rates.Rate(360.0, 288_000.0, 36.0)
    assert (found.of_verdict("drop"), found.of_verdict("reject")) == (7.0, 0.0)


def test_counters_that_began_anew_do_not_go_backwards() -> None:
    found = rates.between(snapshot(10, {"web1": 1000}), snapshot(12, {"web1": 10}))

    assert found.total == rates.Rate()


def test_a_screen_shows_who_gets_what() -> None:
    # when
    shown = drawn(snapshot(10, {"web1": 0, "web2": 0}), snapshot(11, {"web1": 3000, "web2": 1000}))

    # then
    text = "\n".join(shown)
    assert shown[0].startswith("edge ready  eth0 native  12,345 connections stored")
    assert shown[1].startswith("4k packets/s  3.2Mbit/s  400 new/s  0 rejected/s  7 dropped/s")
    assert [line.split()[0] for line in shown[4:7]] == ["web", "web1", "web2"]
    assert shown[5].count("█") == pytest.approx(3 * shown[6].count("█"), abs=2)
    assert "drop_denied" in text
    assert "pass_not_ip" not in text


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        pytest.param({"passive": {"state": "suspect", "share": 0.376}}, "suspect 38%", id="suspect"),
        pytest.param({"passive": {"state": "ejected", "share": 1.0}}, "ejected 100%", id="ejected"),
        pytest.param(
            {"passive": {"state": "trial", "share": None}}, "trial ", id="on trial, without connections"
        ),
        pytest.param({"passive": {"state": "normal", "share": 0.1}}, "up ", id="normal"),
        pytest.param({"passive": None}, "up ", id="not watched"),
        pytest.param(
            {"passive": {"state": "suspect", "share": 0.3}, "operational": "down"}, "down ", id="down besides"
        ),
        pytest.param(
            {"passive": {"state": "suspect", "share": 0.3}, "admin": "drain"}, "drain ", id="it drains"
        ),
    ],
)
def test_a_suspect_is_shown_with_its_share(fields: dict[str, object], shown: str) -> None:
    before, after = snapshot(10, {"web1": 0}), snapshot(11, {"web1": 3000})
    after.services[0]["backends"][0] |= fields

    line = drawn(before, after)[5]

    assert line.split("web1")[1].lstrip().startswith(shown)


@pytest.mark.parametrize(
    ("services", "backends", "size"),
    [
        (1, 1, (80, 24)),
        (1, 250, (80, 24)),
        (40, 3, (80, 24)),
        (3, 3, (60, 15)),
        (3, 3, (200, 60)),
    ],
    ids=["small", "many backends", "many services", "a small terminal", "a large one"],
)
def test_a_screen_fits(services: int, backends: int, size: tuple[int, int]) -> None:
    # given
    long = "a-name-of-all-the-letters-that-a-name-may-have-which-is-63-char"
    none = {f"web{number}": 0 for number in range(backends)}
    some = {f"web{number}": 1000 + number for number in range(backends)}

    # when
    shown = drawn(
        snapshot(10, none, services=services, name=long),
        snapshot(11, some, services=services, name=long),
        *size,
    )

    # then
    assert len(shown) <= size[1]
    assert max(map(len, shown)) <= size[0]


def test_a_screen_without_anything() -> None:
    shown = drawn(snapshot(10, {}, services=0), snapshot(11, {}, services=0))

    assert "no services" in "\n".join(shown)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(0, "0"), (0.5, "0.5"), (9.994, "9.99"), (12.3, "12"), (999, "999"), (1000, "1k"), (12345, "12.3k"),
     (999_700, "1M"), (3_210_000_000, "3.21G")],
)  # fmt: skip
def test_short_numbers(value: float, shown: str) -> None:
    assert top.short(value) == shown
