# SPDX-License-Identifier: Apache-2.0
"""What the daemon is allowed to do, and how much of the machine the doctor itself may see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xdpdirector.doctor.finding import Finding, error, note, ok
from xdpdirector.doctor.running import pid_of
from xdpdirector.doctor.subject import Subject
from xdpdirector.system import privileges

MYSELF = Path("/proc/self/status")


def look(subject: Subject) -> Iterator[Finding]:
    pid = pid_of(subject)
    if pid:
        yield _of_daemon(subject, pid)
    seen = privileges.named(subject.machine.text(MYSELF))
    if "CAP_SYS_ADMIN" not in seen:
        yield note(
            "the doctor sees only what any user may: names of foreign programs and closed directories are hidden",
            f"{MYSELF}: capabilities {', '.join(sorted(seen)) or 'none that matter'}",
            "run it as root to see all",
        )


def _of_daemon(subject: Subject, pid: int) -> Finding:
    place = Path(f"/proc/{pid}/status")
    held = privileges.named(subject.machine.text(place))
    missing = [name for name in privileges.DAEMON if name not in held]
    if missing:
        return error(
            f"the daemon lacks {' and '.join(missing)}",
            f"{place} (CapEff)",
            f"AmbientCapabilities={' '.join(privileges.DAEMON)} in its systemd unit, or start it as root",
        )
    return ok(f"the daemon has {' and '.join(privileges.DAEMON)}", f"{place} (CapEff)")
