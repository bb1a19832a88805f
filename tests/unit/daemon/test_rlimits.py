# SPDX-License-Identifier: Apache-2.0
"""The limit of descriptors, in a process of its own for each row."""

from __future__ import annotations

import subprocess
import sys

import pytest

from xdpdirector.daemon.rlimits import ENOUGH

PROGRAM = """
import resource
from xdpdirector.daemon import rlimits
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
print(rlimits.raise_limit(), *resource.getrlimit(resource.RLIMIT_NOFILE))
"""


@pytest.mark.parametrize(
    ("soft", "hard", "limit"),
    [
        pytest.param(512, 768, 768, id="as many as may be"),
        pytest.param(768, 768, 768, id="there already"),
    ],
)
def test_the_limit_is_raised(soft: int, hard: int, limit: int) -> None:
    source = PROGRAM.format(soft=soft, hard=hard)

    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=True)

    assert done.stdout.split() == [str(limit), str(limit), str(hard)]
    assert limit < ENOUGH


def test_too_few_are_refused_with_the_remedy() -> None:
    source = PROGRAM.format(soft=60, hard=60).replace("raise_limit", "require")

    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, check=False)

    assert done.returncode == 1
    assert "may open 60 files and sockets, and a daemon needs" in done.stderr
    assert "LimitNOFILE" in done.stderr
