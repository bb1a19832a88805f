# SPDX-License-Identifier: Apache-2.0
"""The ground that all stands on: bpffs, memory, disk, the state database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xdpdirector.doctor.finding import Finding, error, note, ok, warning
from xdpdirector.doctor.subject import Patient
from xdpdirector.paths import BPFFS

MEMORY, LIMITS = Path("/proc/meminfo"), Path("/proc/self/limits")
ACCOUNTED_SINCE = (5, 11)  # from here on BPF memory belongs to the cgroup, and RLIMIT_MEMLOCK is not asked
LITTLE_MEMORY, LITTLE_SPACE, NO_SPACE = 256 << 20, 200 << 20, 10 << 20  # bytes
MAGIC = b"SQLite format 3\0"


def look(patient: Patient) -> Iterator[Finding]:
    yield from _bpffs(patient)
    yield from _memory(patient)
    yield from _space(patient)
    yield from _database(patient)


def _bpffs(patient: Patient) -> Iterator[Finding]:
    pins = patient.paths.pins
    if not patient.machine.bpffs_is_mounted():
        yield error(
            "no bpffs is mounted", f"{BPFFS} is none, in this mount namespace", f"mount -t bpf bpf {BPFFS}"
        )
        return
    yield ok("a bpffs is mounted", f"{BPFFS}, /proc/self/mountinfo")
    try:
        there = patient.machine.exists(pins)
    except PermissionError:
        yield note(
            "whether a data plane is loaded cannot be seen",
            f"{pins} is closed to this user",
            "run it as root",
        )
        return
    if there:
        yield ok(f"the data plane of instance '{patient.paths.name}' is loaded", f"{pins} exists")
    else:
        yield note(
            f"no data plane of instance '{patient.paths.name}' is loaded", f"{pins} does not exist", ""
        )


def _memory(patient: Patient) -> Iterator[Finding]:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", patient.machine.text(MEMORY), re.MULTILINE)
    if found:
        available = int(found[1]) << 10
        words = f"{available >> 20:,} MiB of memory are available"
        if available < LITTLE_MEMORY:
            yield warning(
                words, f"{MEMORY}", "give the machine more, or make `sizes` in the configuration smaller"
            )
        else:
            yield ok(words, f"{MEMORY}")
    if patient.machine.kernel.version < ACCOUNTED_SINCE:
        limit = re.search(r"^Max locked memory\s+(\S+)", patient.machine.text(LIMITS), re.MULTILINE)
        if limit and limit[1] != "unlimited":
            yield warning(
                "locked memory is limited, and this kernel counts BPF maps as such",
                f"{LIMITS}: {limit[1]} bytes",
                "LimitMEMLOCK=infinity in the systemd unit, or ulimit -l unlimited",
            )


def _space(patient: Patient) -> Iterator[Finding]:
    directory = patient.paths.state.parent
    free = patient.machine.free(directory)
    words, evidence = f"{free >> 20:,} MiB are free for the state", f"the file system of {directory}"
    remedy = f"make room there: without it no change is stored (df -h {directory})"
    if free < NO_SPACE:
        yield error(words, evidence, remedy)
    elif free < LITTLE_SPACE:
        yield warning(words, evidence, remedy)
    else:
        yield ok(words, evidence)


def _database(patient: Patient) -> Iterator[Finding]:
    state, access = patient.paths.state, patient.paths.access
    if not patient.machine.exists(state):
        yield note("there is no stored state yet", f"{state} does not exist", "")
    elif patient.machine.begin(state) != MAGIC:
        yield error(
            "the state database is damaged",
            f"{state} does not begin as an SQLite database does",
            f"restore it from a backup, or move it away: the next start takes what {patient.source} says",
        )
    else:
        yield ok("the state database is there", f"{state}")
    if patient.machine.exists(access) and patient.machine.begin(access) != MAGIC:
        yield error(
            "the access database is damaged: no token is valid",
            f"{access} does not begin as an SQLite database does",
            "restore it from a backup, or restart the daemon, which keeps the file under another name and begins a "
            "new one; then `xdpdirector token add`",
        )
