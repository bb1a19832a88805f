# SPDX-License-Identifier: Apache-2.0
"""`./lab iso --try`: what the medium promises, on emulated machines beside each other on one switch.

Runs in a network namespace of its own, which is the client. Knows the machines by their consoles, by ssh and by
what they answer, as an administrator does.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from dev.iso.emulator import FIRMWARE, Emulator, Hardware, make_bridge
from dev.vm.session import Course
from xdpdirector.errors import DirectorError
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.waiting import wait_until

CLIENT, DIRECTOR, BACKEND, VIP = "192.0.2.100", "192.0.2.1", "192.0.2.21", "192.0.2.10"
MACS = {"director": "52:54:00:00:00:01", "web1": "52:54:00:00:00:21", "other": "52:54:00:00:00:99"}
SERIAL = "DIRECTOR-DISK"
ANSWERS = 20
DISK = 6 << 30  # octets; a hole in a file
BOOTING, INSTALLING, ANSWERING, COMMAND = 900.0, 1500.0, 900.0, 300.0  # seconds, on a machine with other work
SITE = """\
authorized_keys: ["{key}"]
director:
  services:
    web:
      listeners: ["{vip}:80/tcp"]
      check: {{type: http, path: /healthz, interval: 5s, timeout: 4s}}
      backends:
        web1: {{address: {backend}}}
machines:
  director: {{role: director, mac: "{macs[director]}", addresses: [{director}/24]}}
  web1: {{role: backend, mac: "{macs[web1]}", addresses: [{backend}/24]}}
"""
Say = Callable[[str], None]


class Trial:
    """`image`: the medium without an answer file; `work`: where disks and consoles' logs are."""

    def __init__(self, image: Path, work: Path, say: Say) -> None:
        self.image, self.work, self.say = image, work, say
        self.key = work / "key"
        self.site = work / "site.iso"
        self.backup = work / "director.backup"

    def prepare(self) -> None:
        make_bridge(f"{CLIENT}/24")
        _run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "trial", "-f", str(self.key))
        public = self.key.with_suffix(".pub").read_text().strip()
        text = SITE.format(key=public, vip=VIP, director=DIRECTOR, backend=BACKEND, macs=MACS)
        self.medium(self.site, "XDPD-SITE", {"site.yaml": text.encode()})

    def medium(self, image: Path, label: str, files: dict[str, bytes]) -> None:
        """A second medium."""
        tree = self.work / f"{label}.tree"
        tree.mkdir()
        for name, content in files.items():
            (tree / name).write_bytes(content)
        _run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-V", label, "-o", str(image), str(tree))

    def disk(self, name: str) -> Path:
        path = self.work / f"{name}.disk"
        if not path.exists():
            with path.open("wb") as new:
                new.truncate(DISK)
        return path

    def machine(
        self, name: str, *media: Path, serial: str = SERIAL, uefi: bool = False, stick: bool = False
    ) -> Emulator:
        hardware = Hardware(
            name, MACS.get(name, MACS["other"]), self.disk(name), serial, media, stick=stick, uefi=uefi
        )
        return Emulator(hardware, self.work)

    def installed(self, machine: Emulator) -> None:
        """The menu began by itself; the machine goes off in the end."""
        said = machine.expect(r"xdpdirector-install: (NOT INSTALLED|INSTALLED)[^\n]*\n", timeout=INSTALLING)
        if "NOT INSTALLED" in said:
            raise LabError(f"{machine.hardware.name}: {said}")
        machine.wait_off(BOOTING)

    def install_both(self) -> None:
        """Beside each other. In the middle of the director's copying the power goes; the next start begins anew."""
        with self.machine("web1", self.image, self.site) as backend:
            with self.machine("director", self.image, self.site) as director:
                director.expect(r"xdpdirector-install: copying", timeout=INSTALLING)
                time.sleep(10)
            with self.machine("director", self.image, self.site) as director:
                director.expect("Install XDP Director", timeout=BOOTING)
                found = director.expect(r"xdpdirector-install: to /dev/[^\n]*", timeout=INSTALLING)
                self.say(found)
                if "a partition table (gpt)" not in found:
                    raise LabError(f"the installation that was killed left no partition table: {found}")
                self.installed(director)
            self.installed(backend)

    def answered(self, by: str) -> None:
        command = ["curl", "--silent", "--show-error", "--max-time", "20", f"http://{VIP}/"]

        def answer() -> bool:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            return done.returncode == 0 and done.stdout.strip() == by

        wait_until(answer, f"http://{VIP}/ is answered by {by}", ANSWERING, interval=2)
        for _ in range(ANSWERS):
            if not wait_until(answer, f"http://{VIP}/ is answered again", 60, interval=1):
                raise LabError("no answer")

    def forwarded(self) -> None:
        """By the packet program, not by somebody else."""
        self.say(self.ssh(DIRECTOR, "xdpdirector status"))
        traffic = json.loads(self.ssh(DIRECTOR, "xdpdirector stats --output json"))["services"]["web"]
        if traffic["packets"] < ANSWERS:
            raise LabError(f"the packet program counted {traffic['packets']} packets of {ANSWERS} answers")

    def refused_and_waiting(self) -> None:
        """A disk with data, which no answer names, is as it was; from a memory stick this time. Beside it another
        machine is installed without answers."""
        disk = self.disk("other")
        with disk.open("r+b") as opened:
            opened.seek(3 << 30)
            opened.write(b"somebody's data")
        before = _digest(disk)
        with self.machine("waiting", self.image) as waiting:
            with self.machine("other", self.image, serial="WITH-DATA", stick=True) as machine:
                said = machine.expect(r"NOT INSTALLED\. [^\n]*", timeout=INSTALLING)
                machine.expect("Each command may be given again", timeout=BOOTING)  # the rescue shell
            self.say(said.strip())
            if "no disk is empty" not in said or "WITH-DATA" not in said:
                raise LabError(f"another reason was wanted: {said}")
            if _digest(disk) != before:
                raise LabError("the disk with data was written to")
            self.installed(waiting)

    def destroy(self) -> None:
        """Boot loader, partition table, configuration and database of the director, after a backup."""
        self.ssh(DIRECTOR, "xdpdirector service set web --scheduler mh")
        self.ssh(DIRECTOR, "xdpdirector backup /root/director.backup")
        with self.backup.open("wb") as file:
            subprocess.run([*self._ssh(DIRECTOR), "cat /root/director.backup"], stdout=file, check=True)
        places = "/var/lib/xdpdirector/* /etc/xdpdirector/director.yaml /boot/grub"
        self.ssh(DIRECTOR, f"systemctl stop xdpdirector; rm -rf {places}; sync")
        self.medium(self.work / "backup.iso", "BACKUP", {"director.backup": self.backup.read_bytes()})

    def destroy_disk(self) -> None:
        """While it is off: all before the second partition, but the installer's mark."""
        with self.disk("director").open("r+b") as disk:
            disk.write(bytes((1 << 20) - 4096))
            disk.seek(1 << 20)
            disk.write(bytes(1 << 20))

    def rescue(self) -> None:
        with self.machine("director", self.image, self.work / "backup.iso") as machine:
            self._rescue_shell(machine)
            for line in (
                "mount /dev/disk/by-label/BACKUP /media",
                "xdpdirector-rescue status",
                "xdpdirector-rescue repair",
                "xdpdirector-rescue restore /media/director.backup",
                "xdpdirector-rescue umount",
            ):
                self.say(machine.shell(line, BOOTING).strip())
            machine.type("poweroff\n")
            machine.wait_off(BOOTING)

    def serve_again(self, stack: ExitStack) -> None:
        stack.enter_context(self.machine("director"))
        self.answered("web1")
        service = self.ssh(DIRECTOR, "xdpdirector service show web")
        if "mh" not in service:
            raise LabError(f"what was changed before the backup is lost: {service}")

    def from_medium(self, stack: ExitStack) -> None:
        """The disk is dead: a director without one."""
        hardware = Hardware(
            "director", MACS["director"], None, "", (self.image, self.work / "backup.iso"), megabytes=1536
        )
        machine = stack.enter_context(Emulator(hardware, self.work))
        self._rescue_shell(machine)
        machine.shell("mount /dev/disk/by-label/BACKUP /media", COMMAND)
        line = f"xdpdirector-rescue director /media/director.backup --address {DIRECTOR}/24"
        self.say(machine.shell(line, ANSWERING).strip())
        self.answered("web1")

    def _rescue_shell(self, machine: Emulator) -> None:
        machine.expect("Install XDP Director", timeout=BOOTING)
        time.sleep(2)  # the menu is drawn
        machine.type("r")
        machine.expect(r"Each command may be given again", timeout=BOOTING)
        machine.expect(r"# ", timeout=COMMAND)

    def waiting(self) -> None:
        """A director that waits at its dashboard; the console shows how to get in."""
        with self.machine("waiting") as machine:
            self.say(machine.expect(r"token +\S+", timeout=BOOTING))

    def install_by_uefi(self) -> None:
        with self.machine("director", self.image, self.site, uefi=True) as machine:
            self.installed(machine)

    def ssh(self, host: str, line: str) -> str:
        wait_until(lambda: _reached(host), f"ssh of {host} answers", ANSWERING, interval=2)
        done = subprocess.run(
            [*self._ssh(host), line], capture_output=True, text=True, timeout=COMMAND, check=False
        )
        if done.returncode:
            raise LabError(f"'{line}' on {host} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def _ssh(self, host: str) -> list[str]:
        options = {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR"}
        options |= {"BatchMode": "yes", "IdentitiesOnly": "yes", "ConnectTimeout": "60"}
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "none", "-i", str(self.key), *words, f"root@{host}"]


def try_out(image: Path, work: Path, say: Say) -> Course:
    """How long each step took. LabError when the medium is not as it should be."""
    trial, course = Trial(image, work, say), Course()
    trial.prepare()
    with course.step("installing director and backend; the director's power goes in the middle", say):
        trial.install_both()
    with ExitStack() as backend:
        backend.enter_context(trial.machine("web1"))
        with ExitStack() as director:
            with course.step("starting both from their disks", say):
                director.enter_context(trial.machine("director"))
                trial.answered("web1")
                trial.forwarded()
            with course.step("destroying the director", say):
                trial.destroy()
        trial.destroy_disk()
        with course.step("rescuing it", say):
            trial.rescue()
        with ExitStack() as director, course.step("starting it from its disk", say):
            trial.serve_again(director)
        with ExitStack() as director, course.step("being the director from the medium, without a disk", say):
            trial.from_medium(director)
        if FIRMWARE.exists():
            trial.disk("director").unlink()
            with course.step("installing the director by UEFI", say):
                trial.install_by_uefi()
            with ExitStack() as director, course.step("starting it by UEFI", say):
                director.enter_context(trial.machine("director", uefi=True))
                trial.answered("web1")
    with course.step("refusing a disk with data, and installing without answers", say):
        trial.refused_and_waiting()
    with course.step("starting what was installed without answers", say):
        trial.waiting()
    return course


def _reached(host: str) -> bool:
    try:
        socket.create_connection((host, 22), timeout=5).close()
    except OSError:
        return False
    return True


def _digest(path: Path) -> str:
    """Of what was ever written to it, and where: the rest is holes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        place = 0
        while True:
            try:
                place = os.lseek(file.fileno(), place, os.SEEK_DATA)
            except OSError:  # nothing more
                return digest.hexdigest()
            end = os.lseek(file.fileno(), place, os.SEEK_HOLE)
            digest.update(f"{place}-{end}:".encode() + os.pread(file.fileno(), end - place, place))
            place = end


def _run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"'{shlex.join(command)}' failed: {done.stderr.strip()}")


def main() -> int:
    """`python -m dev.iso.trial IMAGE DIRECTORY`, in namespaces of its own."""
    try:
        print(try_out(Path(sys.argv[1]), Path(sys.argv[2]), lambda text: print(text, flush=True)))
    except DirectorError as error:
        print(f"lab: {error.detail}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
