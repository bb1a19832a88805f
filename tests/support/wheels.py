# SPDX-License-Identifier: Apache-2.0
"""The project's wheel, built from a copy: a build leaves files that the next would pick up."""

import shutil
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
BUILT = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "dist")


def build(place: Path) -> Path:
    """In a new directory `checkout` below `place`."""
    copy = place / "checkout"
    copy.mkdir()
    for name in ("pyproject.toml", "README.md"):
        shutil.copy(CHECKOUT / name, copy)
    for name in ("xdpdirector", "api", "bpf"):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=BUILT)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "built", "."]

    result = subprocess.run(command, cwd=copy, capture_output=True, text=True, timeout=300)

    assert result.returncode == 0, result.stdout + result.stderr
    (wheel,) = (copy / "built").glob("*.whl")
    return wheel
