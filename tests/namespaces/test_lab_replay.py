# SPDX-License-Identifier: Apache-2.0
"""A capture played through a live lab: each backend gets, byte by byte, what the packet program said before."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xdpdirector.lab.lab import all_names

pytestmark = pytest.mark.root

CORPUS = Path(__file__).parents[1] / "corpus"
NAME = f"t_replay_{os.getpid()}"


def test_backends_get_what_a_replay_says(tmp_path: Path) -> None:
    # given a recording of which one line is wrong
    lines = [json.loads(line) for line in (CORPUS / "http.jsonl").read_text().splitlines()]
    wrong = next(line for line in lines if line.get("reason") == "forward_new")
    wrong["backend"] = "backend9"
    recording = tmp_path / "wrong.jsonl"
    recording.write_text("".join(f"{json.dumps(line)}\n" for line in lines))

    # when
    done = subprocess.run(
        [sys.executable, "-m", "xdpdirector", "lab", "replay", CORPUS / "http.pcap", "--json", "--name", NAME,
         "--config", CORPUS / "http.yaml", "--expect", recording, "--pause", "0.01"],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip

    # then
    assert done.stdout, done.stderr
    outcome = json.loads(done.stdout)
    assert [each["is_right"] for each in outcome["backends"]] == [True] * 3
    assert sum(each["received"] for each in outcome["backends"]) > 20
    assert outcome["lost"] == 0
    assert len(outcome["decided"]) == 1
    assert outcome["decided"][0].startswith(
        f"packet {wrong['packet']}: forward_new web/backend9 was recorded"
    )
    assert (outcome["passed"], done.returncode) == (False, 1)
    assert NAME not in all_names()
