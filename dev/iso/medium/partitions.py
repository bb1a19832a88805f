# SPDX-License-Identifier: Apache-2.0
"""How a disk is divided: for BIOS and UEFI alike, so that a disk boots in either machine. Pure.

| | |
|---|---|
| `xdpdirector-bios` | 1 MiB, where GRUB's second part stands for BIOS |
| `xdpdirector-efi` | 128 MiB, FAT32: GRUB for UEFI |
| `xdpdirector-root` | the rest, ext4 |
"""

from __future__ import annotations

NAMES = ("xdpdirector-bios", "xdpdirector-efi", "xdpdirector-root")
BIOS, EFI, ROOT = 1, 2, 3
"""The partitions' numbers."""
_TYPES = (  # UEFI specification 2.10, 5.3.3; Discoverable Partitions Specification for the root of amd64
    "21686148-6449-6E6F-744E-656564454649",
    "C12A7328-F81F-11D2-BA4B-00A0C93EC93B",
    "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709",
)
_SIZES = ("size=1MiB", "size=128MiB", "")


def table() -> str:
    """What sfdisk(8) reads. The first partition begins at 1 MiB; see `mark`."""
    parts = [
        ", ".join(filter(None, (size, f"type={kind}", f'name="{name}"')))
        for size, kind, name in zip(_SIZES, _TYPES, NAMES, strict=True)
    ]
    return "\n".join(["label: gpt", "first-lba: 2048", "start=1MiB, " + parts[0], *parts[1:]]) + "\n"


def partition(disk: str, number: int) -> str:
    """The device of a partition: /dev/sda1, but /dev/nvme0n1p1 where the disk's name ends with a digit."""
    return f"{disk}{'p' if disk[-1].isdigit() else ''}{number}"
