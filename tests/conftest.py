# SPDX-License-Identifier: Apache-2.0
"""What holds for all tests: workers in namespaces of their own, sizes of generated tests, a report.

`pytest -n 2` (pytest-xdist) runs whole files on each worker, as labs and compiled programs are shared by a file.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import Any

import hypothesis
import pytest

REPORT = "XDPDIRECTOR_TEST_REPORT"  # a file that gets what ran, for tools/run_tests.py
CHECKOUT = Path(__file__).parents[1]
ISOLATED = CHECKOUT / "tools/isolated"

# What is loaded a hundred times is compiled once. The loader's own tests do without (namespaces/loading).
os.environ.setdefault("XDPDIRECTOR_COMPILE_CACHE", str(CHECKOUT / ".lab/compiled"))

# No deadlines: how quick a case is on a busy machine is no property of what it tests.
hypothesis.settings.register_profile("default", max_examples=40, deadline=None)
hypothesis.settings.register_profile("soak", max_examples=400, deadline=None)
hypothesis.settings.load_profile("default")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "network: needs this machine's network, for pip's index or npm's; a tier of its own"
    )
    config.pluginmanager.register(Report(config), "report")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: Collection[Any]) -> None:
    """Workers share nothing but files; without root there are only tests that need no namespaces."""
    for spec in specs:
        if spec.popen and os.geteuid() == 0:
            spec.python = f"{ISOLATED} {sys.executable}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from tests.support.longest_first import LongestFirst

    return LongestFirst(config, log)


class Report:
    """Counts outcomes and the seconds of each file, and prints what names a run: the seed of its order."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config
        self._outcomes: Counter[str] = Counter()
        self._skipped: list[tuple[str, str]] = []
        self._seconds: Counter[str] = Counter()
        self._deselected: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[report.nodeid.partition("::")[0]] += report.duration
        if report.when == "call" or report.outcome != "passed":
            self._outcomes["error" if report.failed and report.when != "call" else report.outcome] += 1
        if report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            self._skipped.append((report.nodeid, reason.removeprefix("Skipped: ")))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self._outcomes["error"] += 1

    def pytest_deselected(self, items: Collection[pytest.Item]) -> None:
        for item in items:
            self._deselected["soak" if item.get_closest_marker("soak") else "all"] += 1

    @pytest.hookimpl(optionalhook=True)
    def pytest_testnodedown(self, node: Any, error: object) -> None:
        """Workers deselect, all the same."""
        self._deselected = Counter(getattr(node, "workeroutput", {}).get("deselected", self._deselected))

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if hasattr(session.config, "workeroutput"):
            session.config.workeroutput["deselected"] = dict(self._deselected)

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """At the very end, also of a quiet run."""
        seed = getattr(self._config.option, "randomly_seed", None)
        if self._config.pluginmanager.hasplugin("randomly") and seed is not None:
            terminalreporter.write_line(f"random order: repeat it with --randomly-seed={seed}")

    def pytest_unconfigure(self) -> None:
        if (path := os.environ.get(REPORT)) and not hasattr(self._config, "workerinput"):
            Path(path).write_text(
                json.dumps(
                    {
                        "outcomes": self._outcomes,
                        "skipped": self._skipped,
                        "deselected": self._deselected,
                        "seconds": {name: round(value, 2) for name, value in self._seconds.items()},
                    }
                )
            )
