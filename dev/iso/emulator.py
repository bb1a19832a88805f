# SPDX-License-Identifier: Apache-2.0
"""A whole machine in QEMU: firmware, disk, media, one network card on a bridge, a serial console to read and write.

In emulation, so it needs no support of the processor. Unlike dev.vm's guest it starts by its own boot loader, and
what it writes to its disk stays. Knows nothing of what is installed.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.waiting import wait_until

BRIDGE = "switch"
FIRMWARE = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
_VARIABLES = Path("/usr/share/OVMF/OVMF_VARS_4M.fd")
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[=>()][0-9A-B]?|\r")
_NICE = "0"
_CLOCK = "shift=3,sleep=on"
"""The machine's clock counts instructions, one in eight nanoseconds: a kernel that gets no processor for a while
would find its timers broken else, and give up. When it idles, time goes on."""


@dataclass(frozen=True)
class Hardware:
    """`media` are inserted read-only, the first is what the machine starts from, if there is one; `stick`: as a
    disk like a memory stick's instead of a CD. `serial` is the disk's serial number. `uefi`: instead of a BIOS."""

    name: str
    mac: str
    disk: Path | None = None
    serial: str = ""
    media: Sequence[Path] = ()
    stick: bool = False
    uefi: bool = False
    megabytes: int = 1024


def command(hardware: Hardware, work: Path) -> list[str]:
    """It ends when the process does that starts it."""
    line = ["setpriv", "--pdeathsig", "KILL", "--", "nice", "-n", _NICE]
    line += [
        "qemu-system-x86_64",
        "-nodefaults",
        "-no-user-config",
        "-display",
        "none",
        "-name",
        hardware.name,
    ]
    line += ["-machine", "q35", "-smp", "1", "-m", str(hardware.megabytes), "-cpu", "max,-erms,-fsrm"]
    line += ["-accel", "tcg,tb-size=256,thread=single", "-icount", _CLOCK, "-device", "virtio-rng-pci"]
    line += ["-serial", f"unix:{work / hardware.name}.serial,server=on,wait=off"]
    if hardware.uefi:
        line += ["-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={FIRMWARE}"]
        line += ["-drive", f"if=pflash,format=raw,unit=1,file={work / hardware.name}.vars"]
    if hardware.disk:
        drive = f"file={hardware.disk},format=raw,cache=unsafe,if=none,id=disk,discard=unmap"
        line += [
            "-drive",
            drive,
            "-device",
            f"virtio-blk-pci,drive=disk,serial={hardware.serial},bootindex=2",
        ]
    for number, medium in enumerate(hardware.media):
        drive = f"file={medium},format=raw,if=none,readonly=on,id=medium{number}"
        device = "virtio-blk-pci" if hardware.stick else f"ide-cd,bus=ide.{number}"
        first = ",bootindex=1" if number == 0 else ""
        line += ["-drive", drive, "-device", f"{device},drive=medium{number}{first}"]
    line += ["-netdev", f"tap,id=card,ifname={hardware.name},script=no,downscript=no"]
    line += ["-device", f"virtio-net-pci,netdev=card,mac={hardware.mac},addr=0x9,romfile="]
    return line


class Emulator:
    """A context manager: the machine runs inside the block, or until it goes off. `log`: all that its serial
    console said."""

    def __init__(self, hardware: Hardware, work: Path) -> None:
        self.hardware, self._work = hardware, work
        self.log = work / f"{hardware.name}.log"
        self._said, self._lock = "", threading.Lock()
        self._serial: socket.socket
        self._read_to = 0
        self._errors = work / f"{hardware.name}.errors"
        self._qemu: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        name = self.hardware.name
        _ip("tuntap", "add", name, "mode", "tap")
        _ip("link", "set", name, "master", BRIDGE, "up")
        variables = self._work / f"{name}.vars"
        if self.hardware.uefi and not variables.exists():
            shutil.copy(_VARIABLES, variables)
        with self._errors.open("w") as errors:
            self._qemu = subprocess.Popen(
                command(self.hardware, self._work),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=errors,
            )
        try:
            wait_until(self._connected, f"QEMU opens the console of {name}", 30)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        threading.Thread(target=self._read, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        _ip("link", "delete", self.hardware.name)

    def kill(self) -> None:
        """As if somebody pulled the plug; whoever waits for it learns that it went off."""
        if self._qemu:
            self._qemu.kill()
            self._qemu.wait()

    @property
    def _is_off(self) -> bool:
        return self._qemu is None or self._qemu.poll() is not None

    def _connected(self) -> bool:
        if self._is_off:
            raise LabError(f"QEMU ended: {self._last_words()}")
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(str(self._work / f"{self.hardware.name}.serial"))
        except OSError:
            connection.close()
            return False
        self._serial = connection
        return True

    def _read(self) -> None:
        with self.log.open("a") as log, contextlib.suppress(OSError):
            while data := self._serial.recv(4096):
                text = _ESCAPES.sub("", data.decode(errors="replace"))
                log.write(text)
                log.flush()
                with self._lock:
                    self._said += text

    def _last_words(self) -> str:
        """QEMU's, when it ended."""
        return self._errors.read_text().strip()

    def type(self, text: str) -> None:
        """On the serial console."""
        self._serial.sendall(text.encode())

    def expect(self, *patterns: str, timeout: float) -> str:
        """Wait until the console says one of these regular expressions, after what was expected before; what it
        said. LabError when it goes off before, or does not say it within `timeout` seconds."""
        wanted = re.compile("|".join(f"(?:{pattern})" for pattern in patterns))
        until = time.monotonic() + timeout
        while True:
            ended = self._is_off
            with self._lock:
                found = wanted.search(self._said, self._read_to)
                if found:
                    self._read_to = found.end()
                    return found.group()
                tail = self._said[-600:]
            if ended or time.monotonic() > until:
                how = f"went off {self._last_words()}" if ended else f"ran for {timeout:.0f} s"
                raise LabError(
                    f"{self.hardware.name} {how} without {patterns[0]!r}; its console ends with: {tail}"
                )
            time.sleep(0.3)

    def shell(self, line: str, timeout: float) -> str:
        """Run a line in the shell on the console; what it printed. LabError when it fails."""
        with self._lock:
            self._read_to = len(self._said)
        self.type(f"{line}; echo status-$?-end\n")
        start = self._read_to
        ended = self.expect(r"status-\d+-end", timeout=timeout)
        with self._lock:
            said = self._said[start : self._read_to]
        if ended != "status-0-end":
            raise LabError(f"'{line}' ended with {ended}: {said[-1500:]}")
        return said

    def wait_off(self, timeout: float) -> None:
        """Until it switches itself off."""
        wait_until(
            lambda: self._is_off,
            f"{self.hardware.name} switches itself off",
            timeout,
            interval=0.5,
        )


def _ip(*arguments: str) -> None:
    done = subprocess.run(["ip", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"'ip {' '.join(arguments)}' failed: {done.stderr.strip()}")


def make_bridge(address: str) -> None:
    """The switch that all machines are on; this network namespace is a host on it."""
    _ip("link", "add", BRIDGE, "type", "bridge")
    _ip("address", "add", address, "dev", BRIDGE)
    _ip("link", "set", BRIDGE, "up")
