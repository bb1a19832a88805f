# SPDX-License-Identifier: Apache-2.0
"""One guest: booted from an image, commanded over ssh, thrown away.

Knows nothing of what runs in it. The image is only read, so several guests may use it.
"""

from __future__ import annotations

import shlex
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from dev.vm import qemu
from dev.vm.image import HOST, Image
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.waiting import wait_until

BOOT = 900.0  # seconds; 30 on a quiet machine
PATIENCE = 30.0  # seconds until sshd greets, which starts a process for it
SSH_FAILED = 255  # what ssh says of itself; anything else is the command's
_GREETING = b"SSH-2.0-"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"


class Guest:
    """A context manager: it runs inside the block, and what it wrote is gone afterwards.

    `console` is the file that gets what the kernel says.
    """

    def __init__(self, image: Image, console: Path, shape: qemu.Shape) -> None:
        self._image, self._console, self._shape = image, console, shape
        self._qemu: subprocess.Popen[bytes] | None = None
        self._port = 0

    def __enter__(self) -> Self:
        """LabError when it does not boot."""
        self._port = _free_port()
        image = self._image
        machine = qemu.Machine(
            image.kernel,
            image.initrd,
            image.disk,
            self._console,
            self._port,
            self._shape,
            image.architecture,
        )
        self._qemu = subprocess.Popen(
            qemu.command(machine),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            wait_until(self._answers, "the virtual machine answers on its ssh port", BOOT, interval=0.5)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def reboot(self) -> None:
        """What it wrote stays. For a guest whose shape allows it."""
        before = self.run("cat", _BOOT_ID)
        self.run("systemctl", "--no-block", "reboot")
        wait_until(lambda: self._is_up_since(before), "the virtual machine is up again", BOOT, interval=1)

    def _is_up_since(self, before: str) -> bool:
        if not self._answers():
            return False
        try:
            return self.run("cat", _BOOT_ID) != before
        except LabError:  # it is going down
            return False

    def _end(self) -> None:
        if self._qemu:
            self._qemu.kill()
            self._qemu.communicate()
            self._qemu = None

    def _answers(self) -> bool:
        """Whether sshd greets; QEMU itself takes the connection long before."""
        if self._qemu and self._qemu.poll() is not None:
            words = self._qemu.communicate()[1].decode(errors="replace").strip()
            raise LabError(f"QEMU ended with status {self._qemu.returncode}: {words or self._last_words()}")
        try:
            with socket.create_connection((qemu.LOOPBACK, self._port), timeout=PATIENCE) as connection:
                return connection.recv(len(_GREETING)) == _GREETING
        except OSError:
            return False

    def _last_words(self) -> str:
        lines = self._console.read_text(errors="replace").strip().splitlines()
        return f"its console ends with: {' / '.join(lines[-5:])} (all of it: {self._console})"

    def run(self, *command: str, data: bytes | None = None, timeout: float = 600.0) -> str:
        """Run a command to its end; what it printed. LabError when it fails or outlasts `timeout` seconds."""
        try:
            done = subprocess.run(
                self._ssh(command),
                input=data,
                stdin=subprocess.DEVNULL if data is None else None,
                capture_output=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(
                f"'{shlex.join(command)}' in the guest did not end within {timeout:g} s"
            ) from error
        if done.returncode:
            words = (done.stderr + done.stdout).decode(errors="replace").strip()[-2000:]
            raise LabError(
                f"'{shlex.join(command)}' in the guest ended with {self._end_of(done.returncode)}: {words}"
            )
        return done.stdout.decode(errors="replace")

    def follow(self, *command: str, timeout: float | None = None, terminal: bool = False) -> int:
        """Run a command with its output on ours, and in our terminal if asked to; its exit status."""
        try:
            status = subprocess.run(
                self._ssh(command, terminal=terminal),
                stdin=None if terminal else subprocess.DEVNULL,
                timeout=timeout,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired as error:
            raise LabError(
                f"'{shlex.join(command)}' in the guest did not end within {timeout:g} s"
            ) from error
        if status == SSH_FAILED:
            raise LabError(f"'{shlex.join(command)}' in the guest: {self._end_of(status)}")
        return status

    def _end_of(self, status: int) -> str:
        return f"a broken connection; {self._last_words()}" if status == SSH_FAILED else f"status {status}"

    def _ssh(self, command: Sequence[str], *, terminal: bool = False) -> list[str]:
        options = {
            "IdentitiesOnly": "yes",
            "BatchMode": "yes",
            "HostKeyAlias": HOST,
            "UserKnownHostsFile": str(self._image.known_hosts),
            "GlobalKnownHostsFile": "/dev/null",
            "StrictHostKeyChecking": "yes",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "8",
            "LogLevel": "ERROR",
        }
        line = ["ssh", "-F", "none", "-i", str(self._image.key), "-p", str(self._port)]
        line += [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        line += ["-tt"] if terminal else ["-T"]
        return [*line, f"root@{qemu.LOOPBACK}", "--", shlex.join(command)]


def _free_port() -> int:
    """Of the loopback. Somebody may take it before QEMU does: then QEMU says so and ends."""
    with socket.socket() as probe:
        probe.bind((qemu.LOOPBACK, 0))
        return int(probe.getsockname()[1])
