# SPDX-License-Identifier: Apache-2.0
"""The LAN of the trial: this network namespace is a client on it, its DHCP server, and a web server.

Asks as clients do: HTTP, the API over TLS, ssh. Knows addresses; not how a machine came to have one.
"""

from __future__ import annotations

import hashlib
import json
import shlex
import socket
import ssl
import subprocess
import threading
from functools import partial
from http.client import HTTPException, HTTPSConnection
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from dev.iso.emulator import BRIDGE, make_bridge
from dev.iso.medium.sources import DHCP_OPTION
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.waiting import wait_until

CLIENT, DIRECTOR, WAITING, BACKEND = "192.0.2.100", "192.0.2.1", "192.0.2.3", "192.0.2.21"
INSTALLING = "192.0.2.121"
"""Of the machine to which DHCP names the answer file."""
VIP, WAITING_VIP = "192.0.2.10", "192.0.2.11"
MACS = {
    "director": "52:54:00:00:00:01",
    "waiting": "52:54:00:00:00:03",
    "web1": "52:54:00:00:00:21",
    "other": "52:54:00:00:00:99",
}
ANSWERS_AT = f"http://{CLIENT}:8080/site.yaml"
API = 8650
ANSWERS = 20
ANSWERING, COMMAND = 1800.0, 600.0  # seconds, on a machine with much other work
_REQUEST = 30.0  # seconds


class Lan:
    """`work`: where the key of the one who may log in is, and the DHCP server's files. `given_up` is set when all
    that waits shall fail."""

    def __init__(self, work: Path) -> None:
        self.work, self.key = work, work / "key"
        self.given_up = False

    def prepare(self) -> str:
        """The public key that may log in."""
        make_bridge(f"{CLIENT}/24")
        command = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--user=root", "--port=0"]
        command += [f"--interface={BRIDGE}", "--bind-interfaces", "--dhcp-authoritative", "--no-ping"]
        command += ["--dhcp-range=192.0.2.0,static,1h", f"--dhcp-host={MACS['waiting']},{WAITING}"]
        command += [f"--dhcp-host={MACS['web1']},set:answers,{INSTALLING}"]
        command += [f"--dhcp-option=tag:answers,{DHCP_OPTION},{ANSWERS_AT}"]
        command += [f"--dhcp-leasefile={self.work}/leases", f"--pid-file={self.work}/dnsmasq.pid"]
        command += [f"--log-facility={self.work}/dnsmasq.log"]
        subprocess.Popen(["setpriv", "--pdeathsig", "KILL", "--", *command], stdin=subprocess.DEVNULL)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "trial", "-f", str(self.key))
        return self.key.with_suffix(".pub").read_text().strip()

    def publish(self, text: str) -> None:
        """At `ANSWERS_AT`, which DHCP names."""
        place = self.work / "www"
        place.mkdir()
        (place / "site.yaml").write_text(text)
        server = ThreadingHTTPServer((CLIENT, 8080), partial(_Files, directory=str(place)))
        threading.Thread(target=server.serve_forever, daemon=True).start()

    def answered(self, vip: str, by: str) -> None:
        """Many times, after the first time."""
        command = ["curl", "--silent", "--show-error", "--max-time", "20", f"http://{vip}/"]

        def answer() -> bool:
            self._go_on()
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            return done.returncode == 0 and done.stdout.strip() == by

        wait_until(answer, f"http://{vip}/ is answered by {by}", ANSWERING, interval=2)
        for _ in range(ANSWERS):
            wait_until(answer, f"http://{vip}/ is answered again", 60, interval=1)

    def ssh(self, host: str, line: str) -> str:
        """What that line printed. LabError when it fails."""
        wait_until(lambda: self._reached(host, 22), f"ssh of {host} answers", ANSWERING, interval=2)
        done = subprocess.run(
            [*self._ssh(host), line], capture_output=True, text=True, timeout=COMMAND, check=False
        )
        if done.returncode:
            raise LabError(f"'{line}' on {host} ended with {done.returncode}: {done.stderr}{done.stdout}")
        return done.stdout

    def fetch(self, host: str, path: str, to: Path) -> None:
        """A file of that host."""
        with to.open("wb") as file:
            subprocess.run([*self._ssh(host), f"cat {path}"], stdout=file, check=True, timeout=COMMAND)

    def _ssh(self, host: str) -> list[str]:
        options = {"StrictHostKeyChecking": "no", "UserKnownHostsFile": "/dev/null", "LogLevel": "ERROR"}
        options |= {"BatchMode": "yes", "IdentitiesOnly": "yes", "ConnectTimeout": "60"}
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", "-F", "none", "-i", str(self.key), *words, f"root@{host}"]

    def _reached(self, host: str, port: int) -> bool:
        self._go_on()
        try:
            socket.create_connection((host, port), timeout=5).close()
        except OSError:
            return False
        return True

    def _go_on(self) -> None:
        if self.given_up:
            raise LabError("given up, as another part of the trial failed")


class Api:
    """A director's API over TLS, with the certificate whose SHA-256 is `digest`, as its console shows it:
    hexadecimal, with colons. LabError when it has another one, and for what is refused."""

    def __init__(self, host: str, digest: str, token: str) -> None:
        self._host, self._digest, self._token = host, digest, token
        self._unjudged = ssl.create_default_context()  # by its digest instead
        self._unjudged.check_hostname, self._unjudged.verify_mode = False, ssl.CERT_NONE

    def ask(self, path: str, method: str = "GET", body: object = None) -> Any:
        """The answer's document."""
        return json.loads(self.text(path, method, body))

    def text(self, path: str, method: str = "GET", body: object = None) -> str:
        headers = {"Authorization": f"Bearer {self._token}", "Content-Type": "application/json"}
        connection = HTTPSConnection(self._host, API, timeout=_REQUEST, context=self._unjudged)
        try:
            connection.connect()
            self._judge(connection.sock.getpeercert(binary_form=True) or b"")
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read().decode()
        except (OSError, HTTPException) as error:
            raise LabError(f"{method} {path} of {self._host} failed: {error!r}") from error
        finally:
            connection.close()
        if answer.status not in (200, 201):
            raise LabError(f"{method} {path} of {self._host} was answered by {answer.status}: {said}")
        return said

    def _judge(self, certificate: bytes) -> None:
        found = hashlib.sha256(certificate).hexdigest()
        if found != self._digest.replace(":", "").lower():
            raise LabError(
                f"the console of {self._host} showed the certificate {self._digest}, and it has {found}"
            )


class _Files(SimpleHTTPRequestHandler):
    def log_message(self, *_said: Any) -> None:
        """Not on the terminal."""


def run(*command: str) -> None:
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"'{shlex.join(command)}' failed: {done.stderr.strip()}")
