# SPDX-License-Identifier: Apache-2.0
"""The architectures that a guest can have, each as Debian, the kernel, wheels and QEMU name it. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from xdpdirector.errors import NotFoundError

PLATFORMS = ("manylinux_2_36", "manylinux_2_28", "manylinux_2_17", "manylinux2014")
"""What runs on Debian 12 and later, whose C library is 2.36."""


@dataclass(frozen=True)
class Architecture:
    """`name` and `kernel` are Debian's: of the architecture, and of the package with its kernel. `machine` is the
    kernel's (uname -m), by which wheels are named, too."""

    name: str
    machine: str
    kernel: str
    emulator: str
    """QEMU's command for a whole machine."""
    emulator_package: str
    board: str
    processor: str
    console: str
    """The kernel's name of the board's first serial line."""
    clock: str = ""
    """QEMU's -icount, for a guest whose clock counts instructions while it does not idle, so that a busy host does
    not break its timers."""
    magic: bytes = b""
    """How its programs begin, for a machine of another architecture that shall run them (ELF, e_machine)."""

    @property
    def user_emulators(self) -> tuple[str, str]:
        """QEMU's command for a program alone, linked statically: in Debian 12, and later."""
        return f"qemu-{self.machine}-static", f"qemu-{self.machine}"


AMD64 = Architecture(
    name="amd64",
    machine="x86_64",
    kernel="linux-image-amd64",
    emulator="qemu-system-x86_64",
    emulator_package="qemu-system-x86",
    board="q35",
    processor="max",
    console="ttyS0",
)
ARM64 = Architecture(
    name="arm64",
    machine="aarch64",
    kernel="linux-image-arm64",
    emulator="qemu-system-aarch64",
    emulator_package="qemu-system-arm",
    board="virt",
    # Signed pointers by the architecture's own cipher take most of the time in emulation.
    processor="max,pauth-impdef=on",
    console="ttyAMA0",
    clock="shift=3,sleep=on",  # one in eight nanoseconds
    magic=b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x02\x00\xb7\x00",
)
ARCHITECTURES = {each.name: each for each in (AMD64, ARM64)}


def architecture(name: str) -> Architecture:
    """NotFoundError for another name."""
    if name not in ARCHITECTURES:
        raise NotFoundError(
            f"there is no image for the architecture '{name}': use {' or '.join(ARCHITECTURES)}"
        )
    return ARCHITECTURES[name]


def of_machine(machine: str) -> list[str]:
    """pip's options for wheels of that machine (uname -m)."""
    return [option for platform in PLATFORMS for option in ("--platform", f"{platform}_{machine}")]
