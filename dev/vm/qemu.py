# SPDX-License-Identifier: Apache-2.0
"""QEMU's command line for one guest. Text only: starts nothing.

The guest is emulated (no KVM), has one processor, and cannot reach any network: its first card leads to QEMU's
user network, shut off but for one port of this machine's loopback that leads to its ssh. Further cards stand on
a hub of their own, as on one Ethernet. The disk is never written: what the guest writes goes to a file without
a name, which ends with QEMU.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dev.vm.architecture import AMD64, Architecture

TRANSLATIONS = 256  # megabytes for translated code; without a limit QEMU takes a gigabyte more
NICE = 10
LOOPBACK = "127.0.0.1"
_KERNEL_OPTIONS = (
    *("root=/dev/vda", "rw", "net.ifnames=0"),
    *("mitigations=off", "quiet", "systemd.show_status=0"),  # each costs seconds in emulation
    "panic=-1",  # QEMU ends when the kernel does
)
# On amd64: the guest's clock then counts instructions, one a nanosecond, and never stands still. Without `erms` and
# `fsrm` the kernel copies by loops: QEMU would count each repetition of a string instruction.
_COUNTING = ("-icount", "shift=0,sleep=off")
_PLAIN_COPIES = "max,-erms,-fsrm"


@dataclass(frozen=True)
class Shape:
    """`macs` are those of the cards on the hub. `counting`: the guest's clock is its count of instructions.
    `reboots`: the guest may; what it wrote is still there then. Else QEMU ends, also when the kernel panics."""

    macs: Sequence[str] = ()
    megabytes: int = 1536
    counting: bool = False
    reboots: bool = False


@dataclass(frozen=True)
class Machine:
    """`port` of the loopback leads to the guest's ssh."""

    kernel: Path
    initrd: Path
    disk: Path
    console: Path
    port: int
    shape: Shape = Shape()
    architecture: Architecture = AMD64


def command(machine: Machine) -> list[str]:
    """It ends when the process does that starts it, whatever that dies of."""
    return [
        *("setpriv", "--pdeathsig", "KILL", "--", "nice", "-n", str(NICE)),
        *(machine.architecture.emulator, "-nodefaults", "-no-user-config", "-display", "none"),
        *(() if machine.shape.reboots else ("-no-reboot",)),
        *("-machine", machine.architecture.board, "-smp", "1", "-m", str(machine.shape.megabytes)),
        *_processor(machine),
        *("-serial", f"file:{_escaped(machine.console)}"),
        *(
            "-kernel",
            str(machine.kernel),
            "-initrd",
            str(machine.initrd),
            "-append",
            " ".join((*_KERNEL_OPTIONS, f"console={machine.architecture.console}")),
        ),
        *("-drive", f"file={_escaped(machine.disk)},format=raw,if=virtio,cache=unsafe,snapshot=on"),
        *("-device", "virtio-rng-pci"),
        *("-netdev", f"user,id=ssh,restrict=on,hostfwd=tcp:{LOOPBACK}:{machine.port}-:22"),
        *("-device", "virtio-net-pci,netdev=ssh"),
        *(word for number, mac in enumerate(machine.shape.macs) for word in _card(number, mac)),
    ]


def _processor(machine: Machine) -> tuple[str, ...]:
    accelerator = f"tcg,tb-size={TRANSLATIONS}"
    if not machine.shape.counting:
        clock = machine.architecture.clock
        counted = ("-accel", f"{accelerator},thread=single", "-icount", clock)
        how = counted if clock else ("-accel", accelerator)
        return (*how, "-cpu", machine.architecture.processor)
    return ("-accel", f"{accelerator},thread=single", "-cpu", _PLAIN_COPIES, *_COUNTING)


def _card(number: int, mac: str) -> tuple[str, ...]:
    name = f"card{number}"
    return (
        *("-netdev", f"hubport,id={name},hubid=0"),
        *("-device", f"virtio-net-pci,netdev={name},mac={mac}"),
    )


def _escaped(path: Path) -> str:
    """In a list of options a comma is written twice."""
    return str(path).replace(",", ",,")
