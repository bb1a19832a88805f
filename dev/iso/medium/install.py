# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector-install`: an installation, from the answers to a disk that boots. Asks nothing.

Everything that can be refused is refused before anything is written.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from dev.iso.medium import answers, disks, settings, sources
from dev.iso.medium.disks import Disk
from dev.iso.medium.machine import (
    ROOT_IMAGE,
    cards,
    linked,
    medium_disk,
    run,
    say_on_consoles,
)
from dev.iso.medium.mark import Mark, State
from dev.iso.medium.settings import Settings
from dev.iso.medium.target import Target
from xdpdirector.errors import DirectorError

TARGET = Path("/run/xdpdirector-target")


@dataclass(frozen=True)
class Plan:
    """What will be done: `finish` is `poweroff` or `reboot`; `answers` the digest of the answer file, or empty."""

    what: str
    disk: Disk
    settings: Settings
    finish: str
    answers: str


def plan() -> Plan:
    """DirectorError when it cannot be; nothing is written."""
    source = sources.find(Path("/proc/cmdline").read_text())
    found = cards()
    left_out = {medium_disk()}
    if source is None:
        interface = linked(list(found.names.values()))
        disk = disks.choose(disks.probe(left_out), None)
        what = "a director that waits for its configuration at its dashboard"
        return Plan(what, disk, settings.waiting(interface), "poweroff", "")
    site = answers.read(source.text, source.name)
    machine = answers.machine_for(site, found.names)
    wanted = settings.of_machine(site, machine, found)
    disk = disks.choose(disks.probe(left_out | {source.disk}), machine.spec.disk, source.digest)
    what = f"'{machine.name}', {machine.spec.role}, by {source.name}"
    return Plan(what, disk, wanted, site.finish, source.digest)


def install(course: Plan) -> None:
    """InstallError when a step fails; then the next start begins anew."""
    target = Target(course.disk.path, TARGET)
    say_on_consoles(f"installing {course.what}")
    say_on_consoles(f"to {course.disk}")
    target.divide(Mark(State.UNFINISHED, course.answers))
    say_on_consoles("copying the system")
    with target.mounted():
        target.fill(ROOT_IMAGE)
        say_on_consoles("configuring")
        target.configure(course.settings)
        say_on_consoles("installing the boot loader")
        target.make_bootable()
    target.finish(Mark(State.FINISHED, course.answers))


def main() -> int:
    """0 when it is installed; then the machine goes off or starts anew."""
    try:
        course = plan()
        install(course)
    except DirectorError as error:
        say_on_consoles(f"NOT INSTALLED. {error.detail}")
        return error.exit_code
    ending = "the machine goes off now" if course.finish == "poweroff" else "the machine starts anew now"
    say_on_consoles(f"INSTALLED. {ending}; take out the medium")
    run("systemctl", "--no-block", course.finish)
    return 0


if __name__ == "__main__":
    sys.exit(main())
