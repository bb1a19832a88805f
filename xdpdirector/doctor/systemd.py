# SPDX-License-Identifier: Apache-2.0
"""What starts the daemon at boot, and who keeps clock and VIPs: systemd's units, by the files that they leave."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from xdpdirector.doctor.finding import Finding, note, ok, warning
from xdpdirector.doctor.subject import Subject
from xdpdirector.model.configuration import VipsOnDummy
from xdpdirector.paths import DEFAULT_INSTANCE

SYSTEMD = Path("/run/systemd/system")
WANTED = Path("/etc/systemd/system/multi-user.target.wants")
RUNNING = Path("/sys/fs/cgroup/system.slice")
SYNCHRONISED = Path("/run/systemd/timesync/synchronized")
CLOCK_KEEPERS = (
    "chrony.service",
    "ntpsec.service",
    "ntp.service",
    "openntpd.service",
    "systemd-timesyncd.service",
)
ROUTING_DAEMONS = ("bird.service", "frr.service")


def look(subject: Subject) -> Iterator[Finding]:
    if not subject.machine.exists(SYSTEMD):
        yield note(
            "systemd does not run here: who starts the daemon is your affair", f"{SYSTEMD} does not exist"
        )
        return
    yield _at_boot(subject)
    yield _clock(subject)
    if subject.configuration and subject.configuration.vips == "external":
        yield _keepalived(subject)
    if subject.configuration and isinstance(subject.configuration.vips, VipsOnDummy):
        yield _bird(subject)


def unit_of(instance: str) -> str:
    """The Debian package has one for the default instance, and a template for the others."""
    return "xdpdirector" if instance == DEFAULT_INSTANCE else f"xdpdirector@{instance}"


def _at_boot(subject: Subject) -> Finding:
    name = f"{unit_of(subject.paths.name)}.service"
    if subject.machine.exists(WANTED / name):
        return ok(f"{name} starts at boot", f"{WANTED / name}")
    return warning(
        "the daemon does not start at boot", f"{WANTED / name} does not exist", f"systemctl enable {name}"
    )


def _clock(subject: Subject) -> Finding:
    keepers = [name for name in CLOCK_KEEPERS if _runs(subject, name)]
    if keepers and (keepers[0] != CLOCK_KEEPERS[-1] or subject.machine.exists(SYNCHRONISED)):
        return ok(f"the clock is kept by {keepers[0]}", f"{RUNNING / keepers[0]}")
    return note(
        "nobody is seen to keep the clock: times in the audit and in events may be wrong",
        f"none of {', '.join(CLOCK_KEEPERS)} runs and is synchronised",
        "apt install systemd-timesyncd",
    )


def _keepalived(subject: Subject) -> Finding:
    if _runs(subject, "keepalived.service"):
        return ok("keepalived runs, and may hold the VIPs", f"{RUNNING}/keepalived.service")
    return warning(
        "`vips: external` leaves the VIPs to something else, and keepalived does not run",
        f"{RUNNING}/keepalived.service does not exist",
        "systemctl enable --now keepalived, or `vips: manage`",
    )


def _bird(subject: Subject) -> Finding:
    daemon = next((name for name in ROUTING_DAEMONS if _runs(subject, name)), None)
    if daemon:
        return ok(f"{daemon} runs, and may announce the VIPs", f"{RUNNING / daemon}")
    return warning(
        "`vips: {on: dummy}` leaves it to a routing daemon to announce the VIPs, and none runs",
        f"none of {', '.join(ROUTING_DAEMONS)} is in {RUNNING}",
        "xdpdirector bird-config ... > /etc/bird/bird.conf; systemctl enable --now bird (or frr-config, for FRR)",
    )


def _runs(subject: Subject, unit: str) -> bool:
    return subject.machine.exists(RUNNING / unit)
