# SPDX-License-Identifier: Apache-2.0
"""A Vagrant box from Debian's packages: made when what it consists of changed, kept otherwise.

A box for libvirt is a tar archive of a disk image and a few words. The disk boots by itself (GRUB for BIOS); no
loop device is needed to write it. Knows nothing of what its machines are for.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

from dev.vagrant.box_packages import KERNEL_OPTIONS, STOPPED, USER
from dev.vm.build_dir import Runner, check_tools, workshop
from dev.vm.recipe import Recipe
from dev.vm.rootfs import RootFs, write
from xdpdirector.lab.errors import LabError

NAME = "xdpdirector/bookworm64"
GRUB = Path("/usr/lib/grub/i386-pc")
KEYS = Path("/usr/share/rubygems-integration/all/gems")  # of Debian's package vagrant
_SECTOR = 512
_FIRST_SECTOR = 2048
_MODULES = ("biosdisk", "part_msdos", "ext2", "linux", "normal", "configfile")
_TOOLS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "sfdisk": "fdisk",
    "grub-mkimage": "grub-common",
    "qemu-img": "qemu-utils",
    "vagrant": "vagrant",
}


class Box:
    """The box kept in `directory`; `log` says how it was made."""

    def __init__(self, directory: Path) -> None:
        self._home = directory
        self.file = directory / "xdpdirector.box"
        self.log = directory / "box.log"
        self._stamp = directory / "box.stamp"

    def is_made_by(self, recipe: Recipe) -> bool:
        return self.file.is_file() and self._stamp.is_file() and self._stamp.read_text() == recipe.digest

    def make(self, recipe: Recipe, say: Callable[[str], None]) -> None:
        """Build it. LabError with the log's end when that fails; then there is none."""
        check_tools(_TOOLS)
        with workshop(self._home) as work, self.log.open("w") as log:
            for path in (self._stamp, self.file):
                path.unlink(missing_ok=True)
            run = Runner(log.fileno(), self.log)
            root = RootFs(work / "root", recipe, run)
            say(f"installing {len(recipe.packages)} Debian packages and what they need")
            root.debian()
            root.settings()
            root.inside("systemctl", "--quiet", "disable", *STOPPED)
            _let_vagrant_in(root)
            say("writing the disk")
            disk = _disk(root, work, run)
            _pack(disk, recipe, work / "box").rename(self.file)
            self._stamp.write_text(recipe.digest)


def _let_vagrant_in(root: RootFs) -> None:
    root.inside("useradd", "--create-home", "--shell", "/bin/bash", USER)
    write(root.path, {f"home/{USER}/.ssh/authorized_keys": public_key()})
    root.inside("chown", "-R", f"{USER}:{USER}", f"/home/{USER}/.ssh")
    root.inside("chmod", "-R", "go=", f"/home/{USER}/.ssh")


def public_key() -> str:
    """Of the pair that Vagrant brings, for the first time it logs in."""
    found = sorted(KEYS.glob("vagrant-*/keys/vagrant.pub"))
    if not found:
        raise LabError(f"Vagrant's public key is not below {KEYS}: apt-get install vagrant")
    return found[-1].read_text()


def _disk(root: RootFs, work: Path, run: Runner) -> Path:
    """A master boot record, GRUB in the gap behind it, and one partition."""
    (kernel,) = (path.name for path in (root.path / "boot").glob("vmlinuz-*"))
    initrd = kernel.replace("vmlinuz", "initrd.img")
    lines = ["set timeout=0", f"linux /boot/{kernel} {KERNEL_OPTIONS}", f"initrd /boot/{initrd}", "boot", ""]
    write(root.path, {"boot/grub/grub.cfg": "\n".join(lines)})
    raw, core, table = work / "disk.raw", work / "core.img", work / "table"
    kilobytes = root.recipe.megabytes << 10
    with raw.open("wb") as file:
        file.truncate((kilobytes << 10) + _FIRST_SECTOR * _SECTOR)
    table.write_text(f"label: dos\nstart={_FIRST_SECTOR}, type=83, bootable\n")
    run("sh", "-c", 'sfdisk --quiet "$0" <"$1"', str(raw), str(table))
    offset = f"offset={_FIRST_SECTOR * _SECTOR}"
    without = "^metadata_csum_seed"  # GRUB 2.06 does not read it
    run(
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-O",
        without,
        "-d",
        str(root.path),
        "-E",
        offset,
        str(raw),
        f"{kilobytes}k",
    )
    place = "(hd0,msdos1)/boot/grub"
    run("grub-mkimage", "-O", "i386-pc", "-o", str(core), "-p", place, *_MODULES)
    with raw.open("r+b") as file:
        file.write((GRUB / "boot.img").read_bytes()[:440])
        file.seek(_SECTOR)
        file.write(core.read_bytes())
    disk = work / "disk"
    run("qemu-img", "convert", "-O", "qcow2", str(raw), str(disk))
    return disk


def _pack(disk: Path, recipe: Recipe, file: Path) -> Path:
    """https://vagrant-libvirt.github.io/vagrant-libvirt/boxes.html; `virtual_size` is in gigabytes."""
    words = file.parent / "metadata.json"
    size = -(-(recipe.megabytes + 1) // 1024)
    words.write_text(json.dumps({"provider": "libvirt", "format": "qcow2", "virtual_size": size}))
    with tarfile.open(file, "w") as archive:
        archive.add(words, words.name)
        archive.add(disk, "box.img")
    return file
