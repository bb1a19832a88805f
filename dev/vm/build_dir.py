# SPDX-License-Identifier: Apache-2.0
"""Where things are built: a directory that goes, commands whose words go into a log. Knows nothing of images."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from xdpdirector.lab.errors import LabError

_WORKSHOP = "work-"
# All of what builds ends with us, also when we are killed: its process namespace goes with the first process in it.
_MORTAL = ("setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--mount", "--fork", "--kill-child", "--")
_NICE = ("nice", "-n", "10")


class Runner:
    """Runs what builds, with its output in a log, whose name is `name`; `before` stands before each command."""

    def __init__(self, log: int, name: Path, before: Sequence[str] = (*_MORTAL, *_NICE)) -> None:
        self._log, self._name, self._before = log, name, before

    def __call__(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        done = subprocess.run(
            [*self._before, *command],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            check=False,
            env=environment,
        )
        if done.returncode:
            words = " / ".join(self._name.read_text(errors="replace").strip().splitlines()[-5:])
            raise LabError(
                f"'{command[0]}' ended with status {done.returncode}: {words} (all of it: {self._name})"
            )


def check_tools(tools: Mapping[str, str]) -> None:
    """Whether these commands are there; LabError names the package of the first that is not."""
    for tool, package in tools.items():
        if not shutil.which(tool):
            raise LabError(f"the command '{tool}' is missing: apt-get install {package}")


@contextmanager
def workshop(home: Path) -> Iterator[Path]:
    """A new directory in `home`, which exists afterwards, for as long as the block lasts. What a killed run left of
    its own goes first, so only one at a time: LabError while another one is at work there."""
    home.mkdir(parents=True, exist_ok=True)
    with _alone_in(home):
        for left in home.glob(f"{_WORKSHOP}*"):
            remove(left)
        path = Path(tempfile.mkdtemp(prefix=_WORKSHOP, dir=home))
        path.chmod(0o755)  # apt's own user reads there
        try:
            yield path
        finally:
            remove(path)


@contextmanager
def _alone_in(home: Path) -> Iterator[None]:
    """The kernel lets go of the lock when we end, however we end."""
    place = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    try:
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise LabError(f"another run builds in {home}: wait until it has ended") from error
        yield
    finally:
        os.close(place)


def remove(path: Path) -> None:
    """Never through a mount; mmdebstrap's are gone with its mount namespace."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    if any(line.split()[4].startswith(f"{path}{os.sep}") for line in mounts):
        raise LabError(f"something is mounted below {path}: take it away, then remove the directory")
    if path.exists():
        shutil.rmtree(path)
