# SPDX-License-Identifier: Apache-2.0
"""What a lab writes down while it lives, so that the next one can clear it after any crash.

`/run/xdpdirector-lab/NAME/` holds `lab.json` (shape, owner, checkout, whether it was finished), `owner` (locked by
the process that holds the lab, while it lives: a process id says nothing in another PID namespace), `processes` (a
line for each process started) and the lab's files: logs, servers' directories. Ends and removes nothing.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from xdpdirector.errors import InvalidRequestError
from xdpdirector.lab.processes import Process
from xdpdirector.lab.topology import Topology

ROOT = Path("/run/xdpdirector-lab")
CHECKOUT = Path(__file__).resolve().parents[2]  # whose program this is


@dataclass(frozen=True)
class Started:
    """One process that the lab started: where, and as what."""

    process: Process
    host: str
    role: str


class Record:
    """The directory of the lab `name`. Nothing needs to exist to ask it."""

    def __init__(self, name: str) -> None:
        self.directory = ROOT / name
        self._lab = self.directory / "lab.json"
        self._owner = self.directory / "owner"
        self._processes = self.directory / "processes"
        self._lock: int | None = None

    def begin(self, topology: Topology, owner: Process | None) -> None:
        """Before the first namespace is made. `owner` is this process; without one the lab stays."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.release()
        if owner:
            self._lock = os.open(self._owner, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._write(topology, owner, finished=False)

    def finish(self, topology: Topology, owner: Process | None) -> None:
        self._write(topology, owner, finished=True)

    def release(self) -> None:
        """This process holds the lab no longer."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _write(self, topology: Topology, owner: Process | None, *, finished: bool) -> None:
        document = {
            "topology": asdict(topology),
            "owner": asdict(owner) if owner else None,
            "checkout": str(CHECKOUT),
            "finished": finished,
        }
        fresh = self._lab.with_suffix(".new")
        fresh.write_text(json.dumps(document))
        fresh.rename(self._lab)

    def _read(self) -> dict[str, object]:
        try:
            document = json.loads(self._lab.read_text())
        except (OSError, ValueError):
            return {}
        return document if isinstance(document, dict) else {}

    @property
    def topology(self) -> Topology | None:
        """The shape; None when there is no lab or only half of one."""
        document = self._read()
        shape = document.get("topology")
        if not document.get("finished") or not isinstance(shape, dict):
            return None
        try:
            return Topology(**shape)
        except (TypeError, InvalidRequestError):
            return None

    @property
    def owner(self) -> Process | None:
        """The process that holds the lab, if it still runs."""
        return self._maker() if self._is_held() else None

    @property
    def is_orphaned(self) -> bool:
        """Whether its owner died without taking it down."""
        return self._maker() is not None and not self._is_held()

    @property
    def stays(self) -> bool:
        """Whether it was built to stay until it is taken down."""
        return self.topology is not None and self._maker() is None

    @property
    def checkout(self) -> Path | None:
        """Where the program is that built it."""
        place = self._read().get("checkout")
        return Path(place) if isinstance(place, str) else None

    def _is_held(self) -> bool:
        try:
            descriptor = os.open(self._owner, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    def _maker(self) -> Process | None:
        owner = self._read().get("owner")
        if not isinstance(owner, dict):
            return None
        try:
            return Process(int(owner["pid"]), int(owner["started"]))
        except (KeyError, TypeError, ValueError):
            return None

    def add(self, started: Started) -> None:
        """One short write in append mode: whole, or not at all."""
        line = json.dumps([started.process.pid, started.process.started, started.host, started.role])
        with self._processes.open("a") as file:
            file.write(line + "\n")

    def started(self) -> list[Started]:
        """All that were ever started, the dead ones too; a torn line is passed over."""
        try:
            lines = self._processes.read_text(errors="replace").splitlines()
        except OSError:
            return []
        found = []
        for line in lines:
            try:
                pid, started, host, role = json.loads(line)
                found.append(Started(Process(int(pid), int(started)), str(host), str(role)))
            except (ValueError, TypeError):
                continue
        return found


@contextmanager
def building() -> Iterator[None]:
    """One lab at a time is built or removed. The lock is the directory itself: nothing stays behind."""
    while True:
        ROOT.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(ROOT, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if _still_there(descriptor):
                yield
                return
        finally:
            os.close(descriptor)


def _still_there(descriptor: int) -> bool:
    """Whether the directory was not removed by its last lab while we waited for the lock."""
    try:
        return os.path.samestat(os.fstat(descriptor), ROOT.stat())
    except FileNotFoundError:
        return False


def names() -> list[str]:
    """Labs that left a directory."""
    return sorted(path.name for path in ROOT.iterdir() if path.is_dir()) if ROOT.is_dir() else []
