# SPDX-License-Identifier: Apache-2.0
"""The ground that all stands on: bpffs, memory, disk, the state database."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xdpdirector.doctor.finding import Finding, error, note, ok, warning
from xdpdirector.doctor.subject import Subject
from xdpdirector.paths import BPFFS

MEMORY, LIMITS = Path("/proc/meminfo"), Path("/proc/self/limits")
ACCOUNTED_SINCE = (5, 11)  # from here on BPF memory belongs to the cgroup, and RLIMIT_MEMLOCK is not asked
LITTLE_MEMORY, LITTLE_SPACE, NO_SPACE = 256 << 20, 200 << 20, 10 << 20  # bytes
MAGIC = b"SQLite format 3\0"


def look(subject: Subject) -> Iterator[Finding]:
    yield from _bpffs(subject)
    yield from _memory(subject)
    yield from _space(subject)
    yield from _database(subject)


def _bpffs(subject: Subject) -> Iterator[Finding]:
    pins = subject.paths.pins
    if not subject.machine.bpffs_is_mounted():
        yield error(
            "no bpffs is mounted", f"{BPFFS} is none, in this mount namespace", f"mount -t bpf bpf {BPFFS}"
        )
        return
    yield ok("a bpffs is mounted", f"{BPFFS}, /proc/self/mountinfo")
    try:
        there = subject.machine.exists(pins)
    except PermissionError:
        yield note(
            "whether a data plane is loaded cannot be seen",
            f"{pins} is closed to this user",
            "run it as root",
        )
        return
    if there:
        yield ok(f"the data plane of instance '{subject.paths.name}' is loaded", f"{pins} exists")
    else:
        yield note(
            f"no data plane of instance '{subject.paths.name}' is loaded", f"{pins} does not exist", ""
        )


def _memory(subject: Subject) -> Iterator[Finding]:
    found = re.search(r"^MemAvailable:\s+(\d+) kB", subject.machine.text(MEMORY), re.MULTILINE)
    if found:
        available = int(found[1]) << 10
        words = f"{available >> 20:,} MiB of memory are available"
        if available < LITTLE_MEMORY:
            yield warning(
                words, f"{MEMORY}", "give the machine more, or make `sizes` in the configuration smaller"
            )
        else:
            yield ok(words, f"{MEMORY}")
    if subject.machine.kernel.version < ACCOUNTED_SINCE:
        limit = re.search(r"^Max locked memory\s+(\S+)", subject.machine.text(LIMITS), re.MULTILINE)
        if limit and limit[1] != "unlimited":
            yield warning(
                "locked memory is limited, and this kernel counts BPF maps as such",
                f"{LIMITS}: {limit[1]} bytes",
                "LimitMEMLOCK=infinity in the systemd unit, or ulimit -l unlimited",
            )


def _space(subject: Subject) -> Iterator[Finding]:
    directory = subject.paths.state.parent
    free = subject.machine.free(directory)
    words, evidence = f"{free >> 20:,} MiB are free for the state", f"the file system of {directory}"
    remedy = f"make room there: without it no change is stored (df -h {directory})"
    if free < NO_SPACE:
        yield error(words, evidence, remedy)
    elif free < LITTLE_SPACE:
        yield warning(words, evidence, remedy)
    else:
        yield ok(words, evidence)


def _database(subject: Subject) -> Iterator[Finding]:
    state, access = subject.paths.state, subject.paths.access
    if not subject.machine.exists(state):
        yield note("there is no stored state yet", f"{state} does not exist", "")
    elif subject.machine.begin(state) != MAGIC:
        yield error(
            "the state database is damaged",
            f"{state} does not begin as an SQLite database does",
            f"restore it from a backup, or move it away: the next start takes what {subject.source} says",
        )
    else:
        yield ok("the state database is there", f"{state}")
    if subject.machine.exists(access) and subject.machine.begin(access) != MAGIC:
        yield error(
            "the access database is damaged: no token is valid",
            f"{access} does not begin as an SQLite database does",
            "restore it from a backup, or restart the daemon, which keeps the file under another name and begins a "
            "new one; then `xdpdirector token add`",
        )
