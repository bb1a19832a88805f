# SPDX-License-Identifier: Apache-2.0
"""In which order the daemon's user gets the program and what explains it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from xdpdirector.daemon import startup
from xdpdirector.loader import compiler, ownership
from xdpdirector.loader.layout import Loaded
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths
from xdpdirector.system.privileges import Account

ROOT = Account.of(None)
LOADED = Loaded("", "", Path("program"), 1, Path("pins"), Sizes(), {}, {}, "")
USER = replace(ROOT, name="director", uid=ROOT.uid + 1)


@pytest.mark.parametrize(
    ("account", "steps"),
    [(USER, ["hand over", "explain", "hand over"]), (ROOT, ["hand over"])],
    ids=["another user", "root"],
)
def test_a_daemon_that_runs_may_look_at_its_pins_while_the_rest_is_compiled(
    monkeypatch: pytest.MonkeyPatch, account: Account, steps: list[str]
) -> None:
    done: list[str] = []
    monkeypatch.setattr(ownership, "hand_over", lambda *_: done.append("hand over"))
    monkeypatch.setattr(compiler, "ensure_explaining", lambda *_: done.append("explain"))

    startup.give(InstancePaths("given"), account, LOADED)

    assert done == steps
