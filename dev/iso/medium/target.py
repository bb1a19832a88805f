# SPDX-License-Identifier: Apache-2.0
"""The disk that is installed to, step by step: divided, filled, configured, made to boot.

Each step begins anew what a killed installation left. Knows nothing of how the disk was chosen.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dev.iso.medium import mark
from dev.iso.medium.machine import InstallError, run
from dev.iso.medium.mark import Mark
from dev.iso.medium.partitions import EFI, NAMES, ROOT, partition, table
from dev.iso.medium.settings import Settings

_BOUND = ("dev", "proc", "sys")
_CERTIFICATE_DAYS = "3650"
_END = 1 << 20


class Target:
    """The disk `disk`, whose root is mounted at `root` within `mounted`."""

    def __init__(self, disk: str, root: Path) -> None:
        self.disk, self.root = disk, root

    def divide(self, begun: Mark) -> None:
        """`begun` first: from now on the disk is ours."""
        mark.write(Path(self.disk), begun)
        _blank_ends(Path(self.disk))
        run("sfdisk", "--quiet", "--wipe", "always", "--wipe-partitions", "always", self.disk, data=table())
        run("udevadm", "settle")
        make_efi(partition(self.disk, EFI))
        run("mkfs.ext4", "-q", "-F", "-L", NAMES[ROOT - 1], partition(self.disk, ROOT))
        run("udevadm", "settle")

    @contextmanager
    def mounted(self) -> Iterator[None]:
        try:
            self.mount()
            yield
        finally:
            if os.path.ismount(self.root):
                run("umount", "--recursive", str(self.root))

    def mount(self) -> None:
        """With the partition of UEFI at boot/efi."""
        self.root.mkdir(parents=True, exist_ok=True)
        run("mount", partition(self.disk, ROOT), str(self.root))
        (self.root / "boot/efi").mkdir(parents=True, exist_ok=True)
        run("mount", partition(self.disk, EFI), str(self.root / "boot/efi"))

    def bind(self) -> None:
        """What commands in it need; not before it is filled."""
        for name in _BOUND:
            place = self.root / name
            place.mkdir(exist_ok=True)
            if not os.path.ismount(place):
                run("mount", "--rbind", "--make-rslave", f"/{name}", str(place))

    def fill(self, image: Path) -> None:
        """With the system of a squashfs image."""
        options = ("-force", "-no-progress", "-quiet")
        run("unsquashfs", *options, "-dest", str(self.root), str(image))

    def configure(self, settings: Settings) -> None:
        for name, file in settings.files.items():
            self._write(name, file.text, file.mode, file.group)
        self._write("etc/fstab", self._fstab())
        if settings.password:
            shadow = self.root / "etc/shadow"
            shadow.write_text(with_password(shadow.read_text(), settings.password))
        if settings.certificate:
            self._certify()
        if settings.units:
            run("systemctl", "--quiet", f"--root={self.root}", "enable", *settings.units)

    def _write(self, name: str, text: str, mode: int = 0o644, group: str = "root") -> None:
        path = self.root / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        os.chown(path, 0, _group_id((self.root / "etc/group").read_text(), group))

    def _fstab(self) -> str:
        command = ("blkid", "--output", "value", "--match-tag", "UUID", partition(self.disk, ROOT))
        return (
            f"UUID={run(*command).strip()} / ext4 noatime,errors=remount-ro 0 1\n"
            f"PARTLABEL={NAMES[EFI - 1]} /boot/efi vfat umask=0077,nofail 0 2\n"
        )

    def _certify(self) -> None:
        """The dashboard's, signed by itself: a browser asks once whether it is the right one."""
        key, certificate = (self.root / f"etc/xdpdirector/api.{kind}" for kind in ("key", "pem"))
        options = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        names = ("-subj", "/CN=director", "-days", _CERTIFICATE_DAYS)
        run("openssl", "req", *options, *names, "-keyout", str(key), "-out", str(certificate))
        self._write("etc/xdpdirector/api.key", key.read_text(), 0o640, "xdpdirector")

    def make_bootable(self) -> None:
        """For BIOS and for UEFI, whichever the medium was started by."""
        boot = f"--boot-directory={self.root}/boot"
        run("grub-install", "--target=i386-pc", boot, self.disk)
        efi = f"--efi-directory={self.root}/boot/efi"
        run("grub-install", "--target=x86_64-efi", boot, efi, "--removable", "--no-nvram")
        self.bind()
        run("chroot", str(self.root), "update-grub")

    def finish(self, done: Mark) -> None:
        """After it is no longer mounted."""
        run("sync")
        mark.write(Path(self.disk), done)


def make_efi(device: str) -> None:
    """The file system where UEFI looks for boot loaders."""
    run("mkfs.vfat", "-F", "32", "-n", "XDPD-EFI", device)


def _blank_ends(disk: Path) -> None:
    """All before the mark, and the end, where the second partition table is: nothing of old shows through."""
    descriptor = os.open(disk, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(descriptor, bytes(mark.OFFSET), 0)
        size = os.lseek(descriptor, 0, os.SEEK_END)
        os.pwrite(descriptor, bytes(_END), size - _END)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def with_password(shadow: str, hashed: str) -> str:
    """A text of shadow(5) in which root has that password."""
    lines = shadow.splitlines()
    for number, line in enumerate(lines):
        user, _, *rest = line.split(":")
        if user == "root":
            lines[number] = ":".join((user, hashed, *rest))
            return "\n".join(lines) + "\n"
    raise InstallError("etc/shadow has no root")


def _group_id(groups: str, name: str) -> int:
    """From a text of group(5)."""
    for line in groups.splitlines():
        fields = line.split(":")
        if fields[0] == name:
            return int(fields[2])
    raise InstallError(f"etc/group has no {name}")
