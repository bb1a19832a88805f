# SPDX-License-Identifier: Apache-2.0
"""Which file a worker of pytest-xdist gets next: the one that takes longest.

xdist hands out the files with the most tests first, so that those of few long tests come last, and the other
workers have nothing to do meanwhile. Tests within a file are in random order as before.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from xdist.scheduler import LoadFileScheduling

CHECKOUT = Path(__file__).parents[2]
MEASURED = CHECKOUT / ".lab/seconds.json"  # by tools/run_tests.py, on this machine
A_TEST = 1.0
"""Seconds for each test of a file that no run has measured yet."""


def measured(path: Path = MEASURED) -> dict[str, float]:
    """Seconds by file, of the last runs; nothing where there were none, or what they wrote cannot be read."""
    try:
        files = json.loads(path.read_text())["files"]
        return {str(name): float(seconds) for name, seconds in files.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def longest(files: Mapping[str, Mapping[str, bool]], seconds: Mapping[str, float]) -> str:
    """Of these files, with their tests."""
    return max(files, key=lambda name: seconds.get(name, A_TEST * len(files[name])))


class LongestFirst(LoadFileScheduling):  # type: ignore[misc]
    """xdist has no public way to say the order of files; `_assign_work_unit` takes the first of `workqueue`."""

    def __init__(self, config: Any, log: Any = None) -> None:
        super().__init__(config, log)
        self._seconds = measured()

    def _assign_work_unit(self, node: Any) -> None:
        if self.workqueue:
            self.workqueue.move_to_end(longest(self.workqueue, self._seconds), last=False)
        super()._assign_work_unit(node)
