# SPDX-License-Identifier: Apache-2.0
"""The machines of vagrant/Vagrantfile: Vagrant's commands, and commands in the machines over ssh.

Knows nothing of what the machines are for.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import run
from xdpdirector.lab.waiting import wait_until

BRINGING_UP = 2700.0  # seconds
VAGRANT, SSH = 600.0, 120.0
_NICE = ("nice", "-n", "5")
_CHECKED = re.compile(r"\w+: (?:ok\b|FAILED|all is well).*")
_PREFIX = "xdpdirector-"  # of the names that libvirt has for them, as the Vagrantfile says
_VIRSH = ("virsh", "--connect", "qemu:///system")
_RUNNING = Path("/run/libvirt/qemu")  # where libvirt writes the numbers of QEMU's processes
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class Machines:
    """`project` holds the Vagrantfile; `state` is where Vagrant and we keep what there is to keep; `variables` are
    the Vagrantfile's."""

    def __init__(
        self, project: Path, state: Path, variables: Mapping[str, str], say: Callable[[str], None]
    ) -> None:
        self._project, self._say = project, say
        self.log = state / "vagrant.log"
        self._ssh_config = state / "ssh_config"
        self._environment = {
            **os.environ,
            **variables,
            "HOME": str(state),
            "VAGRANT_HOME": str(state / "home"),
            "VAGRANT_DOTFILE_PATH": str(state / "machines"),
            "VAGRANT_DEFAULT_PROVIDER": "libvirt",
            "VAGRANT_CHECKPOINT_DISABLE": "1",
            "VAGRANT_NO_COLOR": "1",
        }

    def vagrant(self, *arguments: str, timeout: float = VAGRANT) -> str:
        """One of Vagrant's commands; what it printed. Self-checks' words are passed on. LabError if it fails."""
        command = [*_NICE, "timeout", "--kill-after=30", str(timeout), "vagrant", *arguments]
        lines: list[str] = []
        with self.log.open("a") as log:
            log.write(f"$ vagrant {shlex.join(arguments)}\n")
            with subprocess.Popen(
                command,
                cwd=self._project,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            ) as running:
                for line in running.stdout or ():
                    lines.append(_COLOUR.sub("", line))
                    log.write(lines[-1])
                    log.flush()
                    if said := _CHECKED.search(lines[-1]):
                        self._say(f"  {said[0]}")
        if running.returncode:
            words = "".join(lines[-15:])
            raise LabError(
                f"'vagrant {shlex.join(arguments)}' ended with {running.returncode}: {words} (see {self.log})"
            )
        return "".join(lines)

    def up(self, *names: str) -> None:
        """Boot them and, the first time, provision and check them; afterwards `run` reaches them."""
        self.vagrant("up", *names, timeout=BRINGING_UP)
        self._ssh_config.write_text(self.vagrant("ssh-config", *names))

    def command(self, name: str, script: str) -> list[str]:
        """The command line that runs a shell script as root in a machine."""
        options = {
            "ConnectTimeout": "30",
            "ServerAliveInterval": "15",
            "ServerAliveCountMax": "8",
            "LogLevel": "ERROR",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", str(self._ssh_config), *words, name, "--", f"sudo bash -c {shlex.quote(script)}"]

    def run(self, name: str, script: str, timeout: float = SSH) -> str:
        """Run a shell script as root to its end; what it printed. LabError when it fails or takes too long."""
        command = self.command(name, script)
        return run(*command, timeout=timeout, shown=f"{name}: {script}").stdout

    def send(self, name: str, path: Path, target: str) -> None:
        """Copy a file into a machine; `target` is where anybody may write."""
        run("scp", "-q", "-F", str(self._ssh_config), str(path), f"{name}:{target}", timeout=VAGRANT)

    def cut_power(self, name: str) -> None:
        """At once: it has no time for a word to anybody."""
        os.kill(int((_RUNNING / f"{_PREFIX}{name}.pid").read_text()), signal.SIGKILL)

    def power_on(self, name: str, timeout: float) -> None:
        """Boot one whose power was cut; LabError unless it lets us in within so many seconds."""
        domain = f"{_PREFIX}{name}"
        wait_until(
            lambda: run(*_VIRSH, "domstate", domain).stdout.strip() == "shut off",
            f"libvirt has noticed that {name} is off",
            SSH,
            interval=0.5,
        )
        run(*_VIRSH, "start", domain, timeout=VAGRANT)
        wait_until(lambda: self._lets_in(name), f"{name} has booted", timeout, interval=1.0)

    def _lets_in(self, name: str) -> bool:
        with suppress(LabError):
            return run(*self.command(name, "true"), timeout=SSH, check=False).returncode == 0
        return False
