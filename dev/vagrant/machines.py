# SPDX-License-Identifier: Apache-2.0
"""The machines of vagrant/Vagrantfile: Vagrant's commands, and commands in the machines over ssh.

Knows nothing of what the machines are for.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

from xdpdirector.lab.errors import LabError

BRINGING_UP = 1500.0  # seconds
VAGRANT, SSH = 600.0, 120.0
_NICE = ("nice", "-n", "5")
_CHECKED = re.compile(r"\w+: (?:ok\b|FAILED|all is well).*")
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
        try:
            done = subprocess.run(
                self.command(name, script),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise LabError(f"{name}: '{script}' did not end within {timeout:g} s") from error
        if done.returncode:
            words = (done.stderr + done.stdout).strip()[-2000:]
            raise LabError(f"{name}: '{script}' ended with status {done.returncode}: {words}")
        return done.stdout
