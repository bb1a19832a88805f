# SPDX-License-Identifier: Apache-2.0
"""What Prometheus' own tool says of our metrics and rules, and that rules and dashboard are what they should be."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.fake_director import FakeDirector
from xdpdirector.api.http.read_queue import Reader, Reading
from xdpdirector.api.routes import metrics

CONTRIB = Path(__file__).parents[3] / "contrib"
RULES, DASHBOARD = CONTRIB / "prometheus", CONTRIB / "grafana" / "xdpdirector.json"


@pytest.fixture(scope="module")
def promtool() -> str:
    """./lab puts it beside Python."""
    beside = Path(sys.executable).with_name("promtool")
    found = str(beside) if beside.exists() else shutil.which("promtool")
    if found is None:
        pytest.skip("promtool is missing: it is in Debian's package prometheus")
    return found


@pytest.mark.parametrize(
    "arguments", [("check", "rules", "xdpdirector.rules.yaml"), ("test", "rules", "xdpdirector.test.yaml")]
)
def test_the_rules_are_sound_and_do_what_they_say(promtool: str, arguments: tuple[str, ...]) -> None:
    done = subprocess.run([promtool, *arguments], cwd=RULES, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr


def test_the_metrics_are_as_prometheus_wants_them(promtool: str) -> None:
    text = metrics.text(asyncio.run(metrics.snapshot(FakeDirector(), Reader(Reading(), "prometheus"))))

    done = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False)

    assert done.returncode == 0, (done.stdout + done.stderr).decode()


def test_every_panel_of_the_dashboard_has_a_place_of_its_own() -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]

    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {
            (place["x"] + column, place["y"] + row)
            for column in range(place["w"])
            for row in range(place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(column for column, _ in cells) < 24
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels)
