# SPDX-License-Identifier: Apache-2.0
"""Runs what builds, with its output in a file. Knows nothing of what that is."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from xdpdirector.lab.errors import LabError

_SURE = {"LC_ALL": "C.UTF-8", "SOURCE_DATE_EPOCH": "0"}


def run(command: Sequence[str], log: Path, patience: float, cwd: Path | None = None) -> None:
    """With its output in `log`. LabError with the end of it."""
    with log.open("w") as output:
        try:
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env=_environment(os.environ),
                timeout=patience,
                check=False,
            ).returncode
        except FileNotFoundError as error:
            raise LabError(
                f"the command '{command[0]}' is missing: apt-get install debhelper lintian"
            ) from error
        except subprocess.TimeoutExpired as error:
            raise LabError(f"'{command[0]}' did not end within {patience:g} s (see {log})") from error
    if status:
        words = "\n".join(log.read_text(errors="replace").strip().splitlines()[-15:])
        raise LabError(f"'{command[0]}' ended with status {status} (all of it: {log}):\n{words}")


def _environment(present: Mapping[str, str]) -> dict[str, str]:
    """Debian's own Python builds, not that of a virtual environment."""
    path = [each for each in present.get("PATH", "").split(os.pathsep) if not _in_environment(each)]
    return {**present, **_SURE, "PATH": os.pathsep.join(path)}


def _in_environment(directory: str) -> bool:
    return (Path(directory).parent / "pyvenv.cfg").exists()
