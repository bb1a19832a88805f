# SPDX-License-Identifier: Apache-2.0
"""The medium's own boot loader, and the image: a file that starts as a CD and as a memory stick, by BIOS or UEFI.

GRUB's parts are made from Debian's packages with nothing random in them, and xorriso gets each time and
identifier, so that the same tree makes the same octets. Knows nothing of what is installed.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from dev.iso.recipe import LABEL
from dev.vm.build_dir import Runner

GRUB = Path("/usr/lib/grub")
_BIOS_IMAGE = "boot/grub/bios.img"
_MODULES = (
    *(
        "iso9660",
        "part_gpt",
        "part_msdos",
        "normal",
        "configfile",
        "linux",
        "search",
        "search_label",
        "serial",
    ),
    *("terminal", "echo", "test", "all_video", "chain", "ext2", "halt", "reboot", "minicmd"),
)
_EFI_KILOBYTES = 4096
_EARLY = f"""\
search --no-floppy --set=root --label {LABEL}
set prefix=($root)/boot/grub
configfile $prefix/grub.cfg
"""


class Medium:
    """The tree of the medium in `tree`; `work` is for what is not on it. `epoch`: seconds since 1970."""

    def __init__(self, tree: Path, work: Path, epoch: int, run: Runner) -> None:
        self.tree, self.work, self.epoch, self.runner = tree, work, epoch, run

    def make_bootable(self, menu: str) -> None:
        grub = self.tree / "boot/grub"
        grub.mkdir(parents=True)
        (grub / "grub.cfg").write_text(menu)
        early = self.work / "early.cfg"
        early.write_text(_EARLY)
        bios = (
            "-O",
            "i386-pc-eltorito",
            "-o",
            str(self.tree / _BIOS_IMAGE),
            "-p",
            "/boot/grub",
            "-c",
            str(early),
        )
        self.run("grub-mkimage", *bios, "biosdisk", *_MODULES)
        loader = self.work / "BOOTX64.EFI"
        efi = ("-O", "x86_64-efi", "-o", str(loader), "-p", "/boot/grub", "-c", str(early))
        self.run("grub-mkimage", *efi, *_MODULES, "efi_gop", "efi_uga")
        self._efi_partition(loader)

    @property
    def _efi_image(self) -> Path:
        return self.work / "efi.img"

    def _efi_partition(self, loader: Path) -> None:
        """A FAT file system with nothing but the loader, where UEFI looks for it."""
        image = str(self._efi_image)
        self._efi_image.unlink(missing_ok=True)
        os.utime(loader, (self.epoch, self.epoch))
        serial = f"{self.epoch & 0xFFFFFFFF:08x}"
        self.run(
            "mformat",
            "-C",
            "-i",
            image,
            "-T",
            str(_EFI_KILOBYTES * 2),
            "-h",
            "2",
            "-s",
            "32",
            "-N",
            serial,
            "::",
        )
        self.run("mmd", "-i", image, "::/EFI", "::/EFI/BOOT")
        self.run("mcopy", "-m", "-i", image, str(loader), "::/EFI/BOOT/BOOTX64.EFI")

    def write(self, image: Path) -> None:
        """All that is in the tree, with the commit's time."""
        for path in sorted(self.tree.rglob("*"), reverse=True):
            os.utime(path, (self.epoch, self.epoch), follow_symlinks=False)
        os.utime(self.tree, (self.epoch, self.epoch))
        stamp = time.strftime("%Y%m%d%H%M%S00", time.gmtime(self.epoch))
        options = ["-as", "mkisofs", "-quiet", "-r", "-J", "-joliet-long", "-V", LABEL, "-o", str(image)]
        options += ["-iso-level", "3", f"--modification-date={stamp}", "--gpt_disk_guid", "modification-date"]
        options += ["-b", _BIOS_IMAGE, "-no-emul-boot", "-boot-load-size", "4", "-boot-info-table"]
        options += [
            "--grub2-boot-info",
            "--mbr-force-bootable",
            "--grub2-mbr",
            str(GRUB / "i386-pc/boot_hybrid.img"),
        ]
        options += ["-eltorito-alt-boot", "-e", "--interval:appended_partition_2:all::", "-no-emul-boot"]
        options += ["-append_partition", "2", "0xef", str(self._efi_image), "-appended_part_as_gpt"]
        self.run("xorriso", *options, str(self.tree))

    def run(self, *command: str) -> None:
        surroundings = {"SOURCE_DATE_EPOCH": str(self.epoch), "LC_ALL": "C.UTF-8", "TZ": "UTC"}
        self.runner(*command, environment={**os.environ, **surroundings})
