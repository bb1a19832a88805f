# SPDX-License-Identifier: Apache-2.0
"""The machine that the medium was started on: its consoles, its commands, its network cards, the medium itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from dev.iso.medium.settings import Cards
from xdpdirector.errors import DirectorError

MEDIUM = Path("/run/live/medium")
ROOT_IMAGE = MEDIUM / "live" / "root.squashfs"
CONSOLES = (Path("/dev/tty1"), Path("/dev/ttyS0"))
LOG = Path("/run/xdpdirector-install.log")
NAME = "xdpdirector-install"
_ETHERNET = "1"  # ARPHRD_ETHER, linux/if_arp.h
_LINK = 8.0  # seconds that a card gets to find its link
_NET = Path("/sys/class/net")


class InstallError(DirectorError):
    """A step failed; the sentence has the command's last words."""

    slug, title = "install", "The installation failed"


def say(text: str) -> None:
    """On each console that there is, and in the log."""
    for line in text.splitlines() or [""]:
        sys.stdout.write(f"{NAME}: {line}\n")
    sys.stdout.flush()


def say_on_consoles(text: str) -> None:
    """The same where standard output is the journal's."""
    say(text)
    content = "".join(f"{NAME}: {line}\r\n" for line in text.splitlines()).encode()
    for console in CONSOLES:
        try:
            descriptor = os.open(console, os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError:  # there is no such console
            continue
        try:
            os.write(descriptor, content)
        except OSError:  # a serial port without a chip
            pass
        finally:
            os.close(descriptor)


def run(*command: str, data: str | None = None, fine: Collection[int] = (0,)) -> str:
    """What it printed. InstallError when it ends with a status that is not `fine`."""
    with LOG.open("a") as log:
        log.write(f"+ {' '.join(command)}\n")
    try:
        done = subprocess.run(
            command,
            input=data,
            stdin=subprocess.DEVNULL if data is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )
    except FileNotFoundError as error:
        raise InstallError(f"the command '{command[0]}' is missing on this medium") from error
    with LOG.open("a") as log:
        log.write(done.stdout + done.stderr)
    if done.returncode not in fine:
        words = " / ".join((done.stderr or done.stdout).strip().splitlines()[-4:])
        raise InstallError(f"'{' '.join(command[:3])}' ended with status {done.returncode}: {words}")
    return done.stdout


def cards() -> Cards:
    """Its Ethernet cards, in the order of their names."""
    found = {}
    for path in sorted(_NET.iterdir()):
        if (path / "device").exists() and (path / "type").read_text().strip() == _ETHERNET:
            found[(path / "address").read_text().strip().lower()] = path.name
    return Cards(found)


def linked(names: Sequence[str]) -> str:
    """The first of these cards that has a link, or else the first. InstallError when there are none."""
    if not names:
        raise InstallError("this machine has no network card that the kernel knows")
    for name in names:
        run("ip", "link", "set", name, "up")
    until = time.monotonic() + _LINK
    while time.monotonic() < until:
        for name in names:
            if (_NET / name / "carrier").read_text().strip() == "1":
                return name
        time.sleep(0.2)
    return names[0]


def disk_of(device: str) -> str:
    """The whole disk that a partition is part of, or the device itself."""
    parent = run("lsblk", "--noheadings", "--nodeps", "--output", "PKNAME", device).strip()
    return f"/dev/{parent}" if parent else device


def medium_disk() -> str:
    """What the medium is on: /dev/sr0, or a memory stick."""
    return disk_of(run("findmnt", "--noheadings", "--first-only", "--output", "SOURCE", str(MEDIUM)).strip())
