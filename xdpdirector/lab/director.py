# SPDX-License-Identifier: Apache-2.0
"""The director's daemon inside a lab: started, asked, killed and started again.

Speaks to it as any user would, with its command line and over its unix socket. Knows nothing of the
answers.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from xdpdirector.client import Client
from xdpdirector.errors import DirectorError
from xdpdirector.lab import processes
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import Host
from xdpdirector.lab.processes import Process
from xdpdirector.lab.waiting import wait_until
from xdpdirector.paths import InstancePaths

ROLE = "director"
READY_WITHIN = (
    240.0  # seconds: compiling takes 3 on a quiet machine, a minute on one that does eight other things
)


class LabDirector:
    """One daemon of one instance on one host."""

    def __init__(self, host: Host, paths: InstancePaths) -> None:
        self.host = host
        self.paths = paths
        self.configuration = host.directory(ROLE) / f"{paths.name}.yaml"
        self.environment: dict[str, str] = {}
        """Of the next start, besides this process' own."""
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
    def exit_status(self) -> int | None:
        """Of the daemon that was started last; None while it runs."""
        return self._child.poll() if self._child else None

    @property
    def log(self) -> Path:
        return self.host.log(ROLE)

    def launch(self) -> None:
        """Start the daemon and wait for nothing."""
        if self.pid is None:
            self._child = self.host.popen(*self.command, role=ROLE, environment=self.environment)

    def start(self, timeout: float = READY_WITHIN) -> None:
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
            return bool(self.client.get("/readyz")["ready"])
        except DirectorError:
            return False

    def wait_serving(self, timeout: float = 60.0) -> None:
        """Wait until each backend takes connections at each VIP of its service; ready alone does not say that."""
        wait_until(self._all_serve, "every backend serves", timeout, interval=0.05)

    def _all_serve(self) -> bool:
        services = self.client.pages("/v1/services")["items"]
        backends = [backend for service in services for backend in service["backends"]]
        return all(each["serving"] and each["operational"] != "partial" for each in backends)

    @property
    def client(self) -> Client:
        """The API; its errors are those of `xdpdirector.errors`."""
        return Client(self.paths.socket, instance=self.paths.name)
