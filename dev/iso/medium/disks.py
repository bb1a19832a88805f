# SPDX-License-Identifier: Apache-2.0
"""Which disk is written: one that the answers name by its serial number, one on which an installation was begun, or
an empty one; else none.

`choose` decides from what `probe` found; nothing here writes.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dev.iso.medium import mark
from dev.iso.medium.mark import Mark, State
from dev.iso.medium.partitions import NAMES
from xdpdirector.errors import DirectorError

SMALLEST = 4 * 10**9
"""Octets: the system takes less than half of it."""
_ENDS = 4 << 20
_SAMPLES, _SAMPLE = 256, 4096
_NOTHING, _SEVERAL = 2, 8  # what blkid(8) ends with
_COLUMNS = "NAME,PATH,TYPE,SIZE,SERIAL,MODEL,RO,TRAN"


class RefusedError(DirectorError):
    """No disk may be written; the sentence names each disk and what is on it."""

    slug, title = "disk-refused", "No disk may be written"


@dataclass(frozen=True)
class Disk:
    """`content`: what is on it in a few words, empty when nothing is. `size` in octets. `foreign`: there is a file
    system or partition table that this installer did not make."""

    path: str
    size: int
    serial: str = ""
    model: str = ""
    transport: str = ""
    content: str = ""
    mark: Mark | None = None
    foreign: bool = False

    @property
    def is_begun(self) -> bool:
        """Somebody may have used the disk since: then there is another partition table, and it is none of ours."""
        return self.mark is not None and self.mark.state is State.UNFINISHED and not self.foreign

    @property
    def is_removable(self) -> bool:
        """A memory stick, say: taken only if it is named."""
        return self.transport == "usb"

    def __str__(self) -> str:
        named = f"serial number {self.serial}" if self.serial else "without a serial number"
        return f"{self.path} ({self.size / 1e9:.1f} GB, {named}): {self.content or 'empty'}"


def choose(disks: Sequence[Disk], serial: str | None, answers: str = "") -> Disk:
    """The disk to write. `serial`: the one that the answers name; `answers`: their digest. RefusedError else.

    A disk that the same answers were installed to is not written again: a machine whose medium was not taken out
    would install itself for ever.
    """
    if serial is not None:
        return _named(disks, serial, answers)
    fit = [disk for disk in disks if disk.size >= SMALLEST and not disk.is_removable]
    for disk in (*(each for each in fit if each.is_begun), *(each for each in fit if not each.content)):
        return disk
    raise RefusedError(
        "no disk is empty, and none was named. A disk with data is erased only if the answer file names it by its "
        f"serial number (disk:). {_listed(disks)}"
    )


def _named(disks: Sequence[Disk], serial: str, answers: str) -> Disk:
    found = [disk for disk in disks if disk.serial == serial]
    if len(found) != 1:
        raise RefusedError(
            f"{'two disks have' if found else 'no disk has'} the serial number '{serial}' of the answer file. "
            f"{_listed(disks)}"
        )
    disk = found[0]
    if disk.size < SMALLEST:
        raise RefusedError(f"the disk {disk} is too small: {SMALLEST / 1e9:.0f} GB are needed")
    if disk.mark == Mark(State.FINISHED, answers):
        raise RefusedError(
            f"{disk.path} was installed by this very answer file: take out the medium, and start from the disk. To "
            "install anew, change the file, if only a comment in it"
        )
    return disk


def _listed(disks: Sequence[Disk]) -> str:
    return "Disks here: " + ("; ".join(map(str, disks)) or "none") + "."


def probe(left_out: Collection[str] = ()) -> list[Disk]:
    """The machine's disks, in the kernel's order, but those of the paths `left_out`: the medium's own."""
    listed = _output("lsblk", "--json", "--bytes", "--nodeps", "--output", _COLUMNS)
    return [
        probed(each)
        for each in json.loads(listed)["blockdevices"]
        if each["type"] == "disk"
        and not each["ro"]
        and each["size"]
        and each["path"] not in left_out
        and not each["name"].startswith(("fd", "zram", "nbd", "ram"))
    ]


def probed(found: dict[str, Any]) -> Disk:
    """What is on a disk of lsblk(8)."""
    path = Path(found["path"])
    signature = signature_of(path)
    return Disk(
        path=found["path"],
        size=int(found["size"]),
        serial=(found["serial"] or "").strip(),
        model=(found["model"] or "").strip(),
        transport=found["tran"] or "",
        content=signature or data_in(path, int(found["size"])),
        mark=mark_of(path),
        foreign=bool(signature) and not is_ours(path),
    )


def mark_of(path: Path) -> Mark | None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return mark.unpack(os.pread(descriptor, mark.SIZE, mark.OFFSET))
    finally:
        os.close(descriptor)


def is_ours(path: Path) -> bool:
    """Whether there is a partition table, and all its partitions have the names that the installer gives."""
    command = ("sfdisk", "--json", str(path))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        return False
    partitions = json.loads(done.stdout)["partitiontable"].get("partitions", [])
    names = [each.get("name", "") for each in partitions]
    return bool(names) and set(names) <= set(NAMES)


def data_in(path: Path, size: int) -> str:
    """Where there is something in the disk, or file, of `size` octets; empty if all that is looked at is zero: both
    ends, and places in between."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        for offset, length in _places(size):
            if os.pread(descriptor, length, offset).strip(b"\0"):
                return f"data at octet {offset} or after it"
    finally:
        os.close(descriptor)
    return ""


def _places(size: int) -> list[tuple[int, int]]:
    step = max(size // _SAMPLES, _SAMPLE)
    inside = [(offset, _SAMPLE) for offset in range(0, size, step)]
    return [(0, _ENDS), *inside, (max(size - _ENDS, 0), _ENDS)]


def signature_of(path: Path) -> str:
    """A file system or partition table, by blkid(8); empty when it knows none."""
    command = ("blkid", "--probe", "--output", "export", str(path))
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode not in (0, _NOTHING):  # 8: several, which contradict each other
        return "several file systems" if done.returncode == _SEVERAL else f"unreadable: {done.stderr.strip()}"
    said = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    if table := said.get("PTTYPE"):
        return f"a partition table ({table})"
    if kind := said.get("TYPE"):
        label = said.get("LABEL", "")
        return f"{kind} '{label}'" if label else kind
    return ""


def _output(*command: str) -> str:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RefusedError(f"'{command[0]}' ended with status {done.returncode}: {done.stderr.strip()}")
    return done.stdout
