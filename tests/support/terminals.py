# SPDX-License-Identifier: Apache-2.0
"""Terminals side by side, as somebody who follows a session has them: each is a shell that stays.

A prompt belongs to the window that shows it. One that no window shows is what the last command led to: after
`$ sudo ./lab shell` comes `client#`, in the same window, until `exit`. `$` opens a window where none shows it. All
of them are in a network namespace without any network, so that nothing here can reach the machine's own. Knows
nothing of Markdown and of labs.
"""

import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

PATIENCE = 240.0  # seconds for one command, on a busy machine
GRACE = 30.0  # for all its shells to leave
OWN = "$"


class Window:
    """One shell, and those that are started in it. What it prints ends, for us, with a mark."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._child = subprocess.Popen(
            ["unshare", "--net", "/bin/bash", "--norc"],
            cwd=directory,
            env={**os.environ, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self._marks = 0
        self.prompts = [OWN]

    def run(self, command: str) -> str:
        """What the command printed; RuntimeError when it does not end, or ends the shell."""
        assert self._child.stdin
        self._marks += 1
        mark = f"--- end of command {self._marks} ---"
        self._child.stdin.write(f"{command}\necho; echo '{mark}'\n".encode())
        self._child.stdin.flush()
        return self._read_to(f"\n{mark}\n", command)

    def _read_to(self, mark: str, command: str) -> str:
        assert self._child.stdout
        until, output = time.monotonic() + PATIENCE, ""
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while not output.endswith(mark):
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise RuntimeError(f"'{command}' did not end within {PATIENCE:g} s: {output}")
                read = os.read(self._child.stdout.fileno(), 65536)
                if not read:
                    raise RuntimeError(f"'{command}' ended the shell: {output}")
                output += read.decode(errors="replace")
        return output.removesuffix(mark)

    def close(self) -> None:
        """Every shell in it reads the end of its input, and leaves; what runs on is killed."""
        assert self._child.stdin
        assert self._child.stdout
        self._child.stdin.close()
        try:
            self._child.wait(GRACE)
        except subprocess.TimeoutExpired:
            os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        self._child.stdout.close()


class Windows:
    """All of a session; closed in the opposite order."""

    def __init__(self, directory: Path, environment: Mapping[str, str]) -> None:
        self._directory, self._environment = directory, environment
        self._open: list[Window] = []

    def run(self, prompt: str, command: str) -> str:
        window = self._showing(prompt)
        self._open.remove(window)
        self._open.append(window)  # the last one is the one used last
        output = window.run(command)
        if command.split("#")[0].strip() == "exit":
            window.prompts.pop()
        return output

    def _showing(self, prompt: str) -> Window:
        for window in reversed(self._open):
            if window.prompts[-1:] == [prompt]:
                return window
        if prompt == OWN or not self._open:
            self._open.append(Window(self._directory, self._environment))
        if prompt != OWN:
            self._open[-1].prompts.append(prompt)
        return self._open[-1]

    def close(self) -> None:
        while self._open:
            self._open.pop().close()
