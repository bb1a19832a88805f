# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector-rescue`: repairs an installed machine from the medium, or takes its place.

    xdpdirector-rescue status              which disks there are, and which of them has an installed system
    xdpdirector-rescue mount               mount that system at /mnt/installed, and say so
    xdpdirector-rescue repair              its partition table, file system, kernel and boot loader
    xdpdirector-rescue restore FILE        its configuration, state and tokens, from a file of `xdpdirector backup`
    xdpdirector-rescue director FILE --address 192.0.2.1/24
                                           the disk is dead: be the director, from the medium and that file
    xdpdirector-rescue umount              before the machine is switched off

Each command may be given again. `--disk /dev/sdX` where there are several installed systems.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from dev.iso.medium import disks
from dev.iso.medium.disks import Disk
from dev.iso.medium.machine import MEDIUM, InstallError, cards, linked, medium_disk, run
from dev.iso.medium.partitions import EFI, ROOT, partition, table
from dev.iso.medium.target import Target, make_efi
from xdpdirector.errors import DirectorError

PLACE = Path("/mnt/installed")
_COPY = "var/tmp/restore.backup"
_NETWORK = Path("/run/systemd/network/10-rescue.network")


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options().parse_args(arguments)
    try:
        options.verb(options)
    except DirectorError as error:
        print(f"xdpdirector-rescue: {error.detail}", file=sys.stderr)
        return error.exit_code
    return 0


def _options() -> argparse.ArgumentParser:
    words = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        "xdpdirector-rescue",
        usage=argparse.SUPPRESS,
        description=__doc__,
        formatter_class=words,
        add_help=True,
    )
    verbs = parser.add_subparsers(required=True, metavar="COMMAND", help=argparse.SUPPRESS)
    for name, function in (
        ("status", status),
        ("mount", mount),
        ("umount", umount),
        ("repair", repair),
        ("restore", restore),
        ("director", director),
    ):
        verb = verbs.add_parser(name)
        verb.set_defaults(verb=function)
        verb.add_argument("--disk", help="the disk with the installed system, where there are several")
        if name in ("restore", "director"):
            verb.add_argument("file", type=Path, help="a file that `xdpdirector backup` wrote")
        if name == "director":
            verb.add_argument("--address", action="append", default=[], help="with its prefix; repeatable")
            verb.add_argument("--gateway")
            verb.add_argument("--interface", help="the card that gets them; else the first with a link")
    return parser


def status(_options: argparse.Namespace) -> None:
    found = _disks()
    for disk in found:
        print(f"{disk}{'; an installed system' if has_system(disk) else ''}")
    if not found:
        print("This machine has no disk.")


def mount(options: argparse.Namespace) -> None:
    disk = _installed(options.disk)
    if not os.path.ismount(PLACE):
        run("fsck.ext4", "-p", "-v", partition(disk, ROOT), fine=(0, 1))
        target = _target(disk)
        target.mount()
        target.bind()
    print(f"The system of {disk} is at {PLACE}.")


def umount(_options: argparse.Namespace) -> None:
    if os.path.ismount(PLACE):
        run("umount", "--recursive", str(PLACE))
    run("sync")
    print(f"Nothing is at {PLACE}.")


def repair(options: argparse.Namespace) -> None:
    """The partition table that was lost is written as the installer writes it: what is in the partitions stays."""
    disk = with_table(options.disk)
    efi = partition(disk, EFI)
    if not disks.signature_of(Path(efi)).startswith("vfat"):
        make_efi(efi)
    mount(argparse.Namespace(disk=disk))
    target = _target(disk)
    _bring_kernel(target.root)
    target.make_bootable()
    print(f"{disk} starts again, by BIOS and UEFI.")


def restore(options: argparse.Namespace) -> None:
    """By the installed system's own program."""
    backup = _backup(options.file)
    mount(options)
    copy = PLACE / _COPY
    try:
        shutil.copy(backup, copy)
        copy.chmod(0o600)
        print(run("chroot", str(PLACE), "xdpdirector", "restore", f"/{_COPY}", "--replace"), end="")
    finally:
        copy.unlink(missing_ok=True)


def director(options: argparse.Namespace) -> None:
    """What is restored lives in memory, and ends with this boot."""
    backup = _backup(options.file)
    if not options.address:
        raise InstallError(
            "--address is missing: the address with prefix that the director had, 192.0.2.1/24 say"
        )
    interface = options.interface or linked(list(cards().names.values()))
    print(run("xdpdirector", "restore", str(backup), "--replace"), end="")
    lines = [f"Address={address}" for address in options.address]
    lines += [f"Gateway={options.gateway}"] if options.gateway else []
    _NETWORK.parent.mkdir(parents=True, exist_ok=True)
    settings = "\n".join([*lines, "IPv6AcceptRA=no"])
    _NETWORK.write_text(f"[Match]\nName={interface}\n[Network]\n{settings}\n")
    run("systemctl", "restart", "systemd-networkd")
    run("systemctl", "start", "xdpdirector")
    print(run("xdpdirector", "status", fine=(0, 1)), end="")  # 1: a backend is down, or not asked yet


def _backup(file: Path) -> Path:
    if not file.is_file():
        raise InstallError(
            f"there is no file {file}: mount the medium that has it, with `mount /dev/sdX1 /media`"
        )
    return file


def _target(disk: str) -> Target:
    return Target(disk, PLACE)


def _disks() -> list[Disk]:
    return disks.probe({medium_disk()} if os.path.ismount(MEDIUM) else set())


def has_system(disk: Disk) -> bool:
    """Whether the installer's partitions are there, with a file system in the last."""
    return not disk.foreign and disks.signature_of(Path(partition(disk.path, ROOT))).startswith("ext4")


def _installed(wanted: str | None) -> str:
    return only([disk.path for disk in _disks() if has_system(disk)], wanted)


def only(found: Sequence[str], wanted: str | None) -> str:
    """The disk to work on. InstallError when there is none, or more than one and none is wanted."""
    if wanted is not None:
        if wanted not in found:
            raise InstallError(
                f"{wanted} has no system of this installer: those have {', '.join(found) or 'none'}"
            )
        return wanted
    if len(found) > 1:
        raise InstallError(f"several disks have an installed system: say --disk {' or --disk '.join(found)}")
    if not found:
        raise InstallError("no disk has an installed system (xdpdirector-rescue status lists the disks)")
    return found[0]


def with_table(wanted: str | None) -> str:
    """The disk, whose partition table is there when this returns."""
    present = _disks()
    if not any(has_system(disk) for disk in present):
        for disk in present:
            if disk.mark is not None and not disk.content.startswith(("a partition table", "several")):
                print(f"{disk.path} has the installer's mark and no partition table: writing it anew")
                run(
                    "sfdisk",
                    "--quiet",
                    "--wipe",
                    "never",
                    "--wipe-partitions",
                    "never",
                    disk.path,
                    data=table(),
                )
                run("udevadm", "settle")
    return _installed(wanted)


def _bring_kernel(root: Path) -> None:
    """If there is none left: the medium's, which is the one that was installed."""
    boot = root / "boot"
    version = os.uname().release
    for kind, image in (("vmlinuz", "vmlinuz"), ("initrd.img", "initrd.img")):
        if not any(path.stat().st_size for path in boot.glob(f"{kind}-*")):
            shutil.copy(MEDIUM / "live" / image, boot / f"{kind}-{version}")
            print(f"brought {kind}-{version} from the medium")


if __name__ == "__main__":
    sys.exit(main())
