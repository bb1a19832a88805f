# SPDX-License-Identifier: Apache-2.0
"""One host of a lab: run things there.

Enters the network namespace only (`nsenter --net`): /sys, /run and /sys/fs/bpf stay the machine's own, which
pinned maps need (`ip netns exec` would hide them). Knows nothing of servers and directors.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from xdpdirector.lab.errors import LabError
from xdpdirector.lab.lab_state import Record, Started
from xdpdirector.lab.processes import Process
from xdpdirector.lab.topology import Arm, Node


def enter(node: Node, *command: str) -> list[str]:
    """The command line that runs `command` on that host; nsenter only execs, so the process is the same."""
    return ["nsenter", f"--net={node.namespace_path}", "--", *command]


def run(
    *command: str,
    text: str | None = None,
    timeout: float = 30.0,
    check: bool = True,
    environment: Mapping[str, str] | None = None,
    shown: str = "",
) -> subprocess.CompletedProcess[str]:
    """Run to the end and keep what it says; LabError when it fails (`check`) or takes too long, which names the
    command, or `shown`."""
    shown = shown or " ".join(command)
    try:
        done = subprocess.run(
            command,
            input=text,
            stdin=subprocess.DEVNULL if text is None else None,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            env={**os.environ, **(environment or {})},
        )
    except FileNotFoundError as error:
        raise LabError(f"the command '{command[0]}' is missing: install it") from error
    except subprocess.TimeoutExpired as error:
        raise LabError(f"'{shown}' did not end within {timeout:g} s") from error
    if check and done.returncode:
        words = (done.stderr.strip() or done.stdout.strip())[-2000:]
        raise LabError(f"'{shown}' ended with status {done.returncode}: {words}")
    return done


class Host:
    """A host of a lab that is up."""

    def __init__(self, node: Node, record: Record) -> None:
        self.node = node
        self._record = record
        self._children: list[subprocess.Popen[str]] = []

    @property
    def name(self) -> str:
        return self.node.name

    def run(
        self,
        *command: str,
        text: str | None = None,
        timeout: float = 30.0,
        check: bool = True,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command here to its end; LabError when it fails (`check`) or outlasts `timeout` seconds."""
        return run(
            *enter(self.node, *command), text=text, timeout=timeout, check=check, environment=environment
        )

    def python(self, source: str, *arguments: str, timeout: float = 30.0) -> str:
        """What a piece of Python prints when it runs here."""
        return self.run(sys.executable, "-c", source, *arguments, timeout=timeout).stdout

    def popen(
        self,
        *command: str,
        role: str,
        stdin: int | IO[str] = subprocess.DEVNULL,
        stdout: int | IO[str] | None = None,
        stderr: int | IO[str] | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> subprocess.Popen[str]:
        """Start a command here, in a session of its own; it ends with the lab at the latest.

        What it prints goes to `log(role)` unless said otherwise.
        """
        with self.log(role).open("a") as log:
            child = subprocess.Popen(
                enter(self.node, *command),
                stdin=stdin,
                stdout=log if stdout is None else stdout,
                stderr=log if stderr is None else stderr,
                text=True,
                start_new_session=True,
                env={**os.environ, **(environment or {})},
            )
        self._children.append(child)
        self._record.add(Started(Process.of(child.pid), self.name, role))
        return child

    def log(self, role: str) -> Path:
        return self._record.directory / f"{self.name}-{role}.log"

    def directory(self, purpose: str) -> Path:
        """A directory of this host that is removed with the lab."""
        path = self._record.directory / f"{self.name}-{purpose}"
        path.mkdir(exist_ok=True)
        return path

    def link_down(self, interface: str = "eth0") -> None:
        """Pull the cable: both ends lose carrier."""
        self.run("ip", "link", "set", interface, "down")

    def link_up(self, interface: str = "eth0") -> None:
        """Put the cable back, with the IPv6 address that the kernel forgets when a link goes down."""
        self.run("ip", "-batch", "-", text=f"link set {interface} up\n" + self._addresses(interface))

    def _addresses(self, interface: str) -> str:
        arm = self.arm(interface)
        return f"addr replace {self.node.interface6(arm)} dev {interface} nodad\n"

    def arm(self, interface: str) -> Arm:
        return next(arm for arm in self.node.arms if arm.interface == interface)

    def xdp_program(self, interface: str = "eth0") -> int | None:
        """The id of the XDP program on an interface, as the kernel says."""
        links = json.loads(self.run("ip", "-json", "link", "show", "dev", interface).stdout)
        program = links[0].get("xdp", {}).get("prog", {}).get("id")
        return int(program) if program else None

    def reap(self) -> None:
        """Take leave of the children that have ended."""
        for child in self._children:
            child.wait(timeout=5)
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream:
                    stream.close()
        self._children.clear()
