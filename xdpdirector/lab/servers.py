# SPDX-License-Identifier: Apache-2.0
"""Real servers on a lab's backends: nginx, and a UDP echo. Knows nothing of directors."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

from xdpdirector.lab import processes
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import Host
from xdpdirector.lab.processes import Process
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

_MEGABYTE = 1 << 20
_NGINX = """\
user root;
worker_processes 1;
daemon off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 4096; }}
http {{
  access_log off;
  server_tokens off;
  sendfile on;
  keepalive_timeout 1h;
  send_timeout 1h;
  keepalive_requests 1000000;
  client_max_body_size 0;
  default_type text/plain;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  server {{
    listen 80 backlog=4096;
    listen [::]:80 backlog=4096;
    root {directory}/www;
    add_header X-Backend {name} always;
    location = /who {{ return {status} "{name}\\n"; }}
    location = /healthz {{ return {status} "ok\\n"; }}
    location /sink {{ root {directory}; dav_methods PUT; }}
  }}
}}
"""


class Server:
    """A process on a host that is started, stopped (SIGTERM), killed (SIGKILL) and started again."""

    role = "server"

    def __init__(self, host: Host) -> None:
        self.host = host
        self._child: subprocess.Popen[str] | None = None

    def command(self) -> list[str]:
        raise NotImplementedError

    def ready(self) -> bool:
        raise NotImplementedError

    @property
    def running(self) -> bool:
        return self._child is not None and self._child.poll() is None

    def start(self, timeout: float = 10.0) -> None:
        """Start it and wait until it serves; LabError with the end of its log when it does not."""
        if self.running:
            return
        self._child = self.host.popen(*self.command(), role=self.role)
        try:
            wait_until(lambda: not self.running or self.ready(), f"{self.role} on {self.host.name}", timeout)
        finally:
            words = self.host.log(self.role).read_text(errors="replace")[-2000:]
        if not self.running:
            raise LabError(f"{self.role} on {self.host.name} ended at once: {words}")

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not help."""
        if self._child:
            processes.stop(Process.of(self._child.pid))
            self.kill()

    def kill(self) -> None:
        """SIGKILL it and its children at one moment, and wait until it is gone."""
        if self._child:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)  # popen gave it a session, so a group, of its own
            self._child.wait(timeout=5)
            self._child = None


class Nginx(Server):
    """nginx on port 80, IPv4 and IPv6.

    GET /who: the backend's name. GET /healthz: 200. GET /big: the same random bytes on every backend.
    PUT /sink or /sink-NAME: kept as a file, see `received`.
    """

    role = "nginx"

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.directory = host.directory("nginx")
        self.www = self.directory / "www"
        self._status = 200

    def command(self) -> list[str]:
        if not shutil.which("nginx"):
            raise LabError("the command 'nginx' is missing: apt-get install nginx")
        self.www.mkdir(exist_ok=True)
        configuration = self.directory / "nginx.conf"
        configuration.write_text(
            _NGINX.format(directory=self.directory, name=self.host.name, status=self._status)
        )
        (self.directory / "pid").unlink(missing_ok=True)
        return ["nginx", "-e", str(self.directory / "error.log"), "-c", str(configuration)]

    def answer_with(self, status: int) -> None:
        """From the next start on, /who and /healthz have that HTTP status."""
        self._status = status

    def ready(self) -> bool:
        """The pid file is written after the ports are bound."""
        return (self.directory / "pid").exists()

    def publish(self, path: Path) -> None:
        """Serve a file under its own name."""
        self.www.mkdir(exist_ok=True)
        os.link(path, self.www / path.name)

    def received(self, name: str = "sink") -> bytes | None:
        """What a client PUT under that name."""
        path = self.directory / name
        return path.read_bytes() if path.is_file() else None


class Echo(Server):
    """UDP: answers each datagram with the backend's name, a space and the datagram."""

    role = "echo"

    def __init__(self, host: Host, port: int) -> None:
        super().__init__(host)
        self.port = port
        self.role = f"echo-{port}"

    def command(self) -> list[str]:
        self._bound.unlink(missing_ok=True)
        addresses = [str(VIP4), str(VIP6), str(self.host.node.ipv4), str(self.host.node.ipv6)]
        program = [sys.executable, "-m", "xdpdirector.lab.echo"]
        return [*program, self.host.name, str(self._bound), str(self.port), *addresses]

    def ready(self) -> bool:
        return self._bound.exists()

    @property
    def _bound(self) -> Path:
        return self.host.directory(self.role) / "bound"


class FlappingServer(Server):
    """HTTP on all addresses of the host, each of which is well and ill by turns, for `period` seconds each."""

    role = "flapping"

    def __init__(self, host: Host, port: int, period: float) -> None:
        super().__init__(host)
        self.port, self.period = port, period

    def command(self) -> list[str]:
        self._bound.unlink(missing_ok=True)
        program = [sys.executable, "-m", "xdpdirector.lab.flapping_server"]
        return [*program, str(self._bound), str(self.port), str(self.period)]

    def ready(self) -> bool:
        return self._bound.exists()

    @property
    def _bound(self) -> Path:
        return self.host.directory(self.role) / "bound"


def big_file(directory: Path, megabytes: int) -> Path:
    """A file `big` of random bytes, made once for a lab."""
    path = directory / "big"
    if not path.exists():
        path.write_bytes(os.urandom(megabytes * _MEGABYTE))
    return path
