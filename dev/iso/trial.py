# SPDX-License-Identifier: Apache-2.0
"""`./lab iso --try`: what the medium promises, on emulated machines beside each other on one LAN.

Two stories go on beside each other, as two processors can emulate two machines: a director by BIOS, with an answer
file, which is killed, destroyed and rescued; and one by UEFI, without answers, which is configured by its
first-login token. One backend serves both. Knows the machines by their consoles, by ssh and by what they answer, as
an administrator does.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from dev.iso.beside import beside
from dev.iso.emulator import FIRMWARE, Emulator, Hardware
from dev.iso.lan import (
    ANSWERING,
    ANSWERS,
    BACKEND,
    COMMAND,
    DIRECTOR,
    MACS,
    VIP,
    WAITING,
    WAITING_VIP,
    Api,
    Lan,
    run,
)
from dev.vm.session import Course
from xdpdirector.errors import DirectorError
from xdpdirector.lab.errors import LabError

SERIAL = "DIRECTOR-DISK"
DISK = 6 << 30  # octets; a hole in a file
BOOTING, INSTALLING = 1800.0, 3000.0  # seconds, on a machine with much other work
ENTER = "\n"
PROGRAMS = 2  # that the medium brings compiled
CHECK = {"type": "http", "path": "/healthz", "interval": "5s", "timeout": "4s"}
SITE = """\
authorized_keys: ["{key}"]
director:
  services:
    web:
      listeners: ["{vip}:80/tcp"]
      check: {check}
      backends:
        web1: {{address: {backend}}}
machines:
  director: {{role: director, mac: "{macs[director]}", addresses: [{director}/24]}}
  web1: {{role: backend, mac: "{macs[web1]}", addresses: [{backend}/24], vips: [{vip}, {waiting_vip}]}}
"""
Say = Callable[[str], None]


class Trial:
    """`image`: the medium without an answer file; `work`: where disks and consoles' logs are."""

    def __init__(self, image: Path, work: Path, say: Say) -> None:
        self.image, self.work, self.say = image, work, say
        self.lan = Lan(work)
        self.site, self.backup = work / "site.iso", work / "backup.iso"
        self._machines: list[Emulator] = []

    def prepare(self) -> None:
        text = answer_file(self.lan.prepare())
        self.medium(self.site, "XDPD-SITE", {"site.yaml": text.encode()})
        self.lan.publish(text)

    def beside(self, *stories: Callable[[], None]) -> None:
        beside(*stories, give_up=self._give_up)

    def _give_up(self) -> None:
        self.lan.given_up = True
        for machine in self._machines:
            machine.kill()

    def medium(self, image: Path, label: str, files: dict[str, bytes]) -> None:
        """A second medium."""
        tree = self.work / f"{label}.tree"
        tree.mkdir()
        for name, content in files.items():
            (tree / name).write_bytes(content)
        run("xorriso", "-as", "mkisofs", "-quiet", "-r", "-V", label, "-o", str(image), str(tree))

    def disk(self, name: str) -> Path:
        path = self.work / f"{name}.disk"
        if not path.exists():
            with path.open("wb") as new:
                new.truncate(DISK)
        return path

    def machine(
        self, name: str, *media: Path, serial: str = SERIAL, uefi: bool = False, stick: bool = False
    ) -> Emulator:
        return self._emulated(
            Hardware(name, MACS[name], self.disk(name), serial, media, stick=stick, uefi=uefi)
        )

    def _emulated(self, hardware: Hardware) -> Emulator:
        if self.lan.given_up:
            raise LabError("given up, as another part of the trial failed")
        self._machines.append(Emulator(hardware, self.work))
        return self._machines[-1]

    def _installed(self, machine: Emulator) -> None:
        """The menu began by itself; the machine goes off in the end."""
        said = machine.expect(r"xdpdirector-install: (NOT INSTALLED|INSTALLED)[^\n]*\n", timeout=INSTALLING)
        if "NOT INSTALLED" in said:
            raise LabError(f"{machine.hardware.name}: {said}")
        machine.wait_off(BOOTING)
        self.say(f"{machine.hardware.name} is installed")

    # The backend, and the director with answers, by BIOS

    def install_backend(self) -> None:
        """By an answer file that DHCP names, and by itself when nobody chooses in the menu."""
        with self.machine("web1", self.image) as machine:
            self._installed(machine)

    def install_twice(self) -> None:
        """In the middle of copying the power goes; the next start begins anew."""
        with self.machine("director", self.image, self.site) as machine:
            self._press(machine, ENTER)
            machine.expect(r"xdpdirector-install: copying", timeout=INSTALLING)
            time.sleep(10)
        self.say("the director's power went")
        with self.machine("director", self.image, self.site) as machine:
            self._press(machine, ENTER)
            found = machine.expect(r"xdpdirector-install: to /dev/[^\n]*\n", timeout=INSTALLING)
            self.say(found.strip())
            if "a partition table (gpt)" not in found:
                raise LabError(f"the installation that was killed left no partition table: {found}")
            self._installed(machine)

    def serve(self) -> None:
        """The director starts from its disk, and a client is answered; then a backup is taken, and boot loader,
        configuration, database and partition table go."""
        with self.machine("director"):
            self.lan.answered(VIP, "web1")
            self.say(f"http://{VIP}/ is answered by web1, through the installed director")
            self.say(
                self.lan.ssh(DIRECTOR, "xdpdirector status; grep -A1 interfaces /etc/xdpdirector/*.yaml")
            )
            self._counted(json.loads(self.lan.ssh(DIRECTOR, "xdpdirector stats --output json")))
            compiled = self.lan.ssh(DIRECTOR, "ls /var/cache/xdpdirector").split()
            if len(compiled) != PROGRAMS:
                raise LabError(f"the director compiled what the medium should have brought: {compiled}")
            self.lan.ssh(DIRECTOR, "xdpdirector service set web --scheduler mh")
            self.lan.ssh(DIRECTOR, "xdpdirector backup /root/director.backup")
            kept = self.work / "director.backup"
            self.lan.fetch(DIRECTOR, "/root/director.backup", kept)
            places = "/var/lib/xdpdirector/* /etc/xdpdirector/director.yaml /boot/grub"
            self.lan.ssh(DIRECTOR, f"systemctl stop xdpdirector; rm -rf {places}; sync")
        self.medium(self.backup, "BACKUP", {"director.backup": kept.read_bytes()})
        with self.disk("director").open(
            "r+b"
        ) as disk:  # all before the second partition, but the installer's mark
            disk.write(bytes((1 << 20) - 4096))
            disk.seek(1 << 20)
            disk.write(bytes(1 << 20))

    def _counted(self, statistics: dict[str, dict[str, dict[str, int]]]) -> None:
        """Forwarded by the packet program, not by somebody else."""
        packets = statistics["services"]["web"]["packets"]
        if packets < ANSWERS:
            raise LabError(f"the packet program counted {packets} packets of {ANSWERS} answers")

    def rescue(self) -> None:
        """From the medium; then it starts from its disk, and answers as before."""
        with self.machine("director", self.image, self.backup) as machine:
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
        with self.machine("director"):
            self.lan.answered(VIP, "web1")
            service = self.lan.ssh(DIRECTOR, "xdpdirector service show web")
            if "mh" not in service:
                raise LabError(f"what was changed before the backup is lost: {service}")
        self.say(f"http://{VIP}/ is answered as before the rescue")

    def from_medium(self) -> None:
        """The disk is dead: a director without one."""
        hardware = Hardware("director", MACS["director"], media=(self.image, self.backup), megabytes=1536)
        with self._emulated(hardware) as machine:
            self._rescue_shell(machine)
            machine.shell("mount /dev/disk/by-label/BACKUP /media", COMMAND)
            line = f"xdpdirector-rescue director /media/director.backup --address {DIRECTOR}/24"
            self.say(machine.shell(line, ANSWERING).strip())
            self.lan.answered(VIP, "web1")
        self.say(f"http://{VIP}/ is answered through a director without a disk")

    def _press(self, machine: Emulator, key: str) -> None:
        """In the menu, whose ten seconds are half a minute in emulation: it waits by looking at devices."""
        machine.expect("Install XDP Director", timeout=BOOTING)
        time.sleep(1)  # the menu is drawn
        machine.type(key)

    def _rescue_shell(self, machine: Emulator) -> None:
        self._press(machine, "r")
        machine.expect(r"Each command may be given again", timeout=BOOTING)
        machine.expect(r"# ", timeout=COMMAND)

    # Without answers, by UEFI

    def install_waiting(self) -> None:
        with self.machine("waiting", self.image, uefi=FIRMWARE.exists()) as machine:
            self._installed(machine)

    def configure_waiting(self) -> None:
        """It waits at its dashboard; the console shows how to get in. With what it shows it becomes a director;
        then its power goes, and it serves again by itself."""
        uefi = FIRMWARE.exists()
        with self.machine("waiting", uefi=uefi) as machine:
            shown = machine.expect(rf"https://{WAITING}:8650/ui/[^$]*?password +\S+", timeout=BOOTING)
            self.say(shown)
            token, digest = shown.partition("token")[2].split()[0], shown.partition("SHA-256")[2].split()[0]
            api = Api(WAITING, digest, token)
            if "<html" not in api.text("/ui/"):
                raise LabError("the dashboard is not there")
            body = {"listeners": [f"{WAITING_VIP}:80/tcp"], "check": CHECK}
            api.ask("/v1/services/web", "PUT", body | {"backends": {"web1": {"address": BACKEND}}})
            self.lan.answered(WAITING_VIP, "web1")
            self._counted(api.ask("/v1/stats"))
        self.say(f"http://{WAITING_VIP}/ is answered through the director that waited")
        with self.machine("waiting", uefi=uefi):
            self.lan.answered(WAITING_VIP, "web1")
        self.say("and again after its power went")

    def refuse(self) -> None:
        """A disk with data, which no answer names, is as it was; from a memory stick this time."""
        disk = self.disk("other")
        with disk.open("r+b") as opened:
            opened.seek(3 << 30)
            opened.write(b"somebody's data")
        before = _digest(disk)
        with self.machine("other", self.image, serial="WITH-DATA", stick=True) as machine:
            self._press(machine, ENTER)
            said = machine.expect(r"NOT INSTALLED\. [^\n]*\n", timeout=INSTALLING)
            machine.expect("Each command may be given again", timeout=BOOTING)  # the rescue shell
        self.say(said.strip())
        if "no disk is empty" not in said or "WITH-DATA" not in said:
            raise LabError(f"another reason was wanted: {said}")
        if _digest(disk) != before:
            raise LabError("the disk with data was written to")


def try_out(image: Path, work: Path, say: Say) -> Course:
    """How long each step took. LabError when the medium is not as it should be."""
    trial, course = Trial(image, work, say), Course()
    trial.prepare()
    with course.step("installing a backend, and a director whose power goes in the middle", say):
        trial.beside(trial.install_twice, trial.install_backend)
    with trial.machine("web1"):
        with course.step("serving from its disk; beside it, installing by UEFI without answers", say):
            trial.beside(trial.serve, trial.install_waiting)
        with course.step("rescuing the destroyed director; beside it, configuring by the token", say):
            trial.beside(trial.rescue, trial.configure_waiting)
        with course.step("a director from the medium alone; beside it, refusing a disk with data", say):
            trial.beside(trial.from_medium, trial.refuse)
    return course


def answer_file(key: str) -> str:
    """Of director and backend; `key` may log in."""
    return SITE.format(
        key=key,
        vip=VIP,
        waiting_vip=WAITING_VIP,
        director=DIRECTOR,
        backend=BACKEND,
        macs=MACS,
        check=json.dumps(CHECK),
    )


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


def main() -> int:
    """`python -m dev.iso.trial IMAGE DIRECTORY`, in namespaces of its own."""
    began = time.monotonic()

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:5.0f} s  {text}", flush=True)

    try:
        print(try_out(Path(sys.argv[1]), Path(sys.argv[2]), say))
    except DirectorError as error:
        print(f"lab: {error.detail}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
