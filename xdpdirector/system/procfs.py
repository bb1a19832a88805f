# SPDX-License-Identifier: Apache-2.0
"""/proc/PID of a process whose number we know, and the other way round.

The two differ where /proc belongs to another PID namespace than we do: `unshare --pid --fork COMMAND` without
`--mount-proc`. Its directories then have the numbers of that namespace, and those of ours mean other processes.
A pidfd tells (proc(5), fdinfo: `Pid` is the number in the /proc that is read; pid_namespaces(7)).
"""

from __future__ import annotations

import os
from pathlib import Path

PROC = Path("/proc")


def is_ours() -> bool:
    """Whether /proc shows processes by the numbers that we have for them."""
    return str(PROC.joinpath("self").readlink()) == str(os.getpid())


def directory(pid: int) -> Path:
    """Where /proc has the process with our number `pid`; FileNotFoundError when it has ended or is not shown."""
    if is_ours():
        return PROC / str(pid)
    number = _shown_as(pid)
    if number <= 0:  # 0: in no namespace below that of /proc; -1: it has ended
        raise FileNotFoundError(f"{PROC} does not show process {pid}")
    return PROC / str(number)


def _shown_as(pid: int) -> int:
    try:
        descriptor = os.pidfd_open(pid)
    except OSError:
        return -1
    try:
        lines = PROC.joinpath(f"self/fdinfo/{descriptor}").read_text().splitlines()
    finally:
        os.close(descriptor)
    return next((int(line.split()[1]) for line in lines if line.startswith("Pid:")), -1)


def pid(entry: Path) -> int | None:
    """Our number of the process that has this directory in /proc; None when we have none for it."""
    shown = int(entry.name)
    if is_ours():
        return shown
    try:
        numbers = [_numbers(PROC / "self"), _numbers(entry)]
    except OSError:
        return None
    level = len(numbers[0]) - 1  # NSpid: one number for each namespace, from that of /proc inwards
    own = numbers[1][level] if len(numbers[1]) > level else 0
    return own if own and _shown_as(own) == shown else None


def _numbers(entry: Path) -> list[int]:
    lines = (entry / "status").read_text(errors="replace").splitlines()
    return next(([int(word) for word in line.split()[1:]] for line in lines if line.startswith("NSpid:")), [])
