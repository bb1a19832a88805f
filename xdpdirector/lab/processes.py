# SPDX-License-Identifier: Apache-2.0
"""Processes, identified and ended without mistaking one for another.

A process is its number *and* its start time: a number alone may belong to another by now. Signals go through
a pidfd, which cannot change owner between the look and the signal. Knows nothing of labs.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.waiting import wait_until
from xdpdirector.system import procfs


@dataclass(frozen=True)
class Process:
    """`started` is in clock ticks since boot (field 22 of /proc/PID/stat, proc(5)), 0 when it had gone."""

    pid: int
    started: int

    @classmethod
    def of(cls, pid: int) -> Process:
        state = _state(pid)
        return cls(pid, state[1] if state else 0)

    @property
    def alive(self) -> bool:
        """Whether exactly this process runs. A zombie does not."""
        state = _state(self.pid)
        return state is not None and state[1] == self.started and state[0] not in "ZX"

    def send(self, number: signal.Signals) -> bool:
        """Whether the process was there to be signalled."""
        try:
            descriptor = os.pidfd_open(self.pid)
        except ProcessLookupError:
            return False
        try:
            if not self.alive:
                return False
            signal.pidfd_send_signal(descriptor, number)
        except ProcessLookupError:
            return False
        finally:
            os.close(descriptor)
        return True

    @property
    def command(self) -> str:
        try:
            text = (procfs.directory(self.pid) / "cmdline").read_bytes()
        except OSError:
            return ""
        return text.replace(b"\0", b" ").decode(errors="replace").strip()


def _state(pid: int) -> tuple[str, int] | None:
    """State letter and start time; None when there is no such process."""
    try:
        text = (procfs.directory(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text[text.rindex(")") + 2 :].split()  # the name before it may hold spaces and brackets
    return fields[0], int(fields[19])


def inside(namespaces: Iterable[Path]) -> list[Process]:
    """The processes that live in these network namespaces, without this one and its ancestors."""
    wanted = {key for path in namespaces if (key := _identity(path))}
    spared = _ancestors()
    found = [
        entry
        for entry in procfs.PROC.iterdir()
        if entry.name.isdigit() and entry.name not in spared and _identity(entry / "ns" / "net") in wanted
    ]
    processes = [Process.of(pid) for entry in found if (pid := procfs.pid(entry))]
    return [process for process in processes if process.started]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _ancestors() -> set[str]:
    """As /proc names them, and this process."""
    shown = str(procfs.PROC.joinpath("self").readlink())
    found: set[str] = set()
    while shown != "0" and shown not in found:
        found.add(shown)
        try:
            text = (procfs.PROC / shown / "stat").read_text(errors="replace")
        except OSError:
            break
        shown = text[text.rindex(")") + 2 :].split()[1]
    return found


def kill(find: Callable[[], Iterable[Process]], what: str, timeout: float = 5.0) -> None:
    """SIGKILL what `find` finds, until it finds nothing that runs: a fork may slip through once."""

    def none_left() -> bool:
        running = [process for process in find() if process.alive]
        for process in running:
            process.send(signal.SIGKILL)
        return not running

    try:
        wait_until(none_left, what, timeout)
    except Exception as error:
        names = ", ".join(f"{process.pid} ({process.command})" for process in find() if process.alive)
        raise LabError(f"{what}: these processes do not end: {names or 'none any more'}") from error


def stop(process: Process, grace: float = 5.0) -> bool:
    """SIGTERM, then SIGKILL after `grace` seconds; whether SIGTERM was enough."""
    process.send(signal.SIGTERM)
    deadline = time.monotonic() + grace
    while process.alive:
        if time.monotonic() > deadline:
            kill(lambda: [process], f"killing process {process.pid}")
            return False
        time.sleep(0.01)
    return True
