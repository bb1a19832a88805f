# SPDX-License-Identifier: Apache-2.0
"""`./lab test`: which file a worker gets next, and which tiers run beside each other."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.support.longest_first import longest, measured

CHECKOUT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def run_tests() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_tests", CHECKOUT / "tools/run_tests.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def files(**tests: int) -> dict[str, dict[str, bool]]:
    return {
        name: {f"{name}::test_{number}": False for number in range(count)} for name, count in tests.items()
    }


def test_the_file_that_takes_longest_is_next_and_not_that_of_the_most_tests() -> None:
    assert longest(files(many=50, few=2), {"many": 3.0, "few": 90.0}) == "few"


def test_a_file_that_was_not_measured_is_taken_for_a_second_each_test() -> None:
    assert longest(files(new=50, few=2), {"few": 90.0}) == "few"
    assert longest(files(new=50, few=2), {"few": 20.0}) == "new"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (json.dumps({"files": {"a.py": 2, "b.py": 0.5}}), {"a.py": 2.0, "b.py": 0.5}),
        ("{}", {}),
        ("no JSON", {}),
        ('{"files": {"a.py": null}}', {}),
        ("[]", {}),
        (None, {}),
    ],
    ids=["measured", "no files", "no JSON", "no number", "no object", "no such file"],
)
def test_what_was_measured_is_read_and_damage_is_no_failure(
    tmp_path: Path, text: str | None, found: dict[str, float]
) -> None:
    path = tmp_path / "seconds.json"
    if text is not None:
        path.write_text(text)

    assert measured(path) == found


def test_the_network_tier_runs_while_the_browser_tier_does(
    run_tests: ModuleType, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each waits for the other's mark: one after the other neither would end."""

    def meeting(own: str, others: str) -> list[str]:
        script = (
            f"touch {tmp_path}/{own}; until [ -e {tmp_path}/{others} ]; do sleep 0.05; done; echo {own} ended"
        )
        return ["sh", "-c", script]

    lines = {
        "unit": ["sh", "-c", "echo unit ended"],
        "browser": meeting("browser", "network"),
        "network": [*meeting("network", "browser")[:2], meeting("network", "browser")[2] + "; exit 3"],
    }

    outcomes = list(run_tests.carry_out(["unit", "browser", "network"], lines))

    assert [(each.tier, each.status) for each in outcomes] == [("unit", 0), ("browser", 0), ("network", 3)]
    said = [line for line in capfd.readouterr().out.splitlines() if line.endswith("ended")]
    assert said == ["unit ended", "browser ended", "network ended"]


def test_a_tier_alone_waits_for_none(run_tests: ModuleType) -> None:
    outcomes = list(run_tests.carry_out(["network"], {"network": ["sh", "-c", "exit 1"]}))

    assert [(each.tier, each.failed) for each in outcomes] == [("network", 1)]
