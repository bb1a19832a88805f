# SPDX-License-Identifier: Apache-2.0
"""Commands and shells of a person on a lab's host: how one enters, what is in PATH, what the prompt is."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from xdpdirector.lab.host import enter
from xdpdirector.lab.lab import Lab
from xdpdirector.lab.topology import Node

# What bash reads instead of the user's own file, which it reads first: PATH and prompt are set after all others.
_RC = """\
[ ! -r /etc/bash.bashrc ] || . /etc/bash.bashrc
[ ! -r ~/.bashrc ] || . ~/.bashrc
PATH={path}
PS1={prompt}
unset PROMPT_COMMAND
"""


def program() -> str:
    """How this command is called: by its path, where sudo's PATH may not have it."""
    place = _programs() / "xdpdirector"
    if not place.exists():
        return "xdpdirector"
    return str(place.relative_to(Path.cwd()) if place.is_relative_to(Path.cwd()) else place)


def _programs() -> Path:
    """Of the environment that this Python belongs to."""
    return Path(sys.executable).parent


def inhabitant(
    lab: Lab, node: Node, command: Sequence[str] | None = None
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of `command` on that host, or of a shell whose prompt names the host.

    `xdpdirector` is found there, whatever sudo made of PATH. It speaks to the director of that host, elsewhere to
    the lab's first one.
    """
    prompt = f"{node.name}# "
    instances = dict(zip(lab.topology.director_nodes, lab.topology.instances, strict=True))
    instance = instances.get(node, lab.topology.instance)
    path = os.environ.get("PATH", os.defpath)
    if (_programs() / "xdpdirector").exists():
        path = f"{_programs()}{os.pathsep}{path}"
    environment = {**os.environ, "XDPDIRECTOR_INSTANCE": instance.name, "PATH": path}
    if command:
        return enter(node, *command), environment
    shell = os.environ.get("SHELL", "/bin/sh")
    line = [shell]
    if Path(shell).name == "bash":
        rc = lab.record.directory / f"{node.name}.bashrc"
        rc.write_text(_RC.format(path=shlex.quote(path), prompt=shlex.quote(prompt)))
        line += ["--rcfile", str(rc)]
    return enter(node, *line), {**environment, "PS1": prompt}


def run_shell(lab: Lab, host: str) -> int:
    """A shell there until it is left; its exit status. Ctrl-C is for what runs in it."""
    line, environment = inhabitant(lab, lab.topology.node(host))
    # A handler and not SIG_IGN, which the shell and all that runs in it would inherit.
    before = signal.signal(signal.SIGINT, lambda _number, _frame: None)
    try:
        return subprocess.run(line, env=environment, check=False).returncode
    finally:
        signal.signal(signal.SIGINT, before)
