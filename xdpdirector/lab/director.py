# SPDX-License-Identifier: Apache-2.0
"""The director's daemon inside a lab: started, asked, killed and started again.

Speaks to it as any user would, with its command line and over its unix socket. Knows nothing of the
answers.
"""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from xdpdirector.lab import processes
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import Host
from xdpdirector.lab.processes import Process
from xdpdirector.lab.waiting import wait_until
from xdpdirector.paths import InstancePaths

ROLE = "director"


class ApiError(LabError):
    """The API answered with a problem; `status` is HTTP's."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status = status


class LabDirector:
    """One daemon of one instance on one host."""

    def __init__(self, host: Host, paths: InstancePaths) -> None:
        self.host = host
        self.paths = paths
        self.configuration = host.directory(ROLE) / f"{paths.name}.yaml"
        self._child: subprocess.Popen[str] | None = None

    def configure(self, document: Mapping[str, Any]) -> None:
        """Write the configuration file that the next start reads."""
        yaml = YAML()
        yaml.default_flow_style = False
        with self.configuration.open("w") as file:
            yaml.dump(dict(document), file)

    @property
    def command(self) -> list[str]:
        program = [sys.executable, "-m", "xdpdirector", "--instance", self.paths.name]
        return [*program, "run", "--config", str(self.configuration)]

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child and self._child.poll() is None else None

    @property
    def log(self) -> Path:
        return self.host.log(ROLE)

    def launch(self) -> None:
        """Start the daemon and wait for nothing."""
        if self.pid is None:
            self._child = self.host.popen(*self.command, role=ROLE)

    def start(self, timeout: float = 60.0) -> None:
        """Start the daemon and wait until /readyz says so; LabError with the end of its log when it ends."""
        self.launch()
        wait_until(lambda: self.pid is None or self.ready, "the director is ready", timeout, interval=0.05)
        if self.pid is None:
            words = self.log.read_text(errors="replace")[-3000:]
            raise LabError(f"the director ended with status {self._child and self._child.wait()}: {words}")

    def stop(self, grace: float = 10.0) -> bool:
        """SIGTERM and wait; whether it ended by itself within `grace` seconds."""
        if self._child is None:
            return True
        in_time = processes.stop(Process.of(self._child.pid), grace)
        self._child.wait(timeout=5)
        return in_time

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        if self._child:
            Process.of(self._child.pid).send(signal.SIGKILL)
            self._child.wait(timeout=5)

    @property
    def ready(self) -> bool:
        try:
            self.request("GET", "/readyz")
        except (OSError, http.client.HTTPException, ApiError):
            return False
        return True

    def request(self, method: str, path: str, body: object = None, timeout: float = 30.0) -> Any:
        """One HTTP request over the unix socket; the answer's document. ApiError unless the status is 2xx."""
        connection = _UnixConnection(self.paths.socket, timeout)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"} if content else {})
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        document = json.loads(text) if text else None
        if not 200 <= answer.status < 300:
            raise ApiError(answer.status, f"{method} {path} answered {answer.status}: {text[:1000]}")
        return document


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))
