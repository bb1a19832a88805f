# SPDX-License-Identifier: Apache-2.0
"""Debian's ldirectord as it is, over this director: it calls ipvsadm, finds ours, and has its way."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.lab_director import command, directing
from xdpdirector.errors import TimedOutError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import backend_address
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.host import run
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until

LDIRECTORD = shutil.which("ldirectord", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
pytestmark = [
    pytest.mark.root,
    pytest.mark.slow,
    pytest.mark.backends(2),
    pytest.mark.skipif(
        LDIRECTORD is None, reason="ldirectord is missing: install Debian's package ldirectord"
    ),
]
PATIENCE = 60.0
"""Seconds: it asks each second, and each change is several runs of ipvsadm."""

GLOBALS = """\
checktimeout=2
checkinterval=1
autoreload=no
quiescent={quiescent}
"""
HTTP = """\
virtual={vip}:80
\treal={one}:80 gate 3
\treal={two}:80 gate
\tfallback=127.0.0.1:80 gate
\tservice=http
\tscheduler=wlc
\tprotocol=tcp
\tchecktype=negotiate
\trequest="who"
\treceive="backend"
"""
OTHERS = """\
virtual={vip}:443
\treal={one}:443 gate
\treal={two}:443 gate
\tservice=https
\tscheduler=rr
\tpersistent=600
\tprotocol=tcp
\tchecktype=negotiate
\trequest="index.html"
\treceive="this is"
virtual={vip}:25
\treal={one}:25 gate
\treal={two}:25 gate
\tservice=smtp
\tscheduler=wlc
\tprotocol=tcp
virtual={vip}:53
\treal={one}:53 gate
\treal={two}:53 gate
\tservice=dns
\tscheduler=wrr
\tprotocol=udp
\tchecktype=negotiate
\trequest="www.example"
\treceive="192.0.2.80"
virtual={vip}:21
\treal={one}:21 gate
\treal={two}:21 gate
\tservice=ftp
\tscheduler=wlc
\tpersistent=300
\tnetmask=255.255.255.0
\tprotocol=tcp
\tchecktype=external
\tcheckcommand="{script}"
"""


class Servers(NamedTuple):
    """The backends' addresses; and the certificate that all of them show, which signed itself."""

    addresses: list[str]
    certificate: Path


class Ldirectord:
    """In the foreground (`-d`): so it takes the ipvsadm of its directory. `lame`: a file whose presence fails the
    external check of a backend, by its address."""

    def __init__(self, director: LabDirector, servers: Servers) -> None:
        self._director, self.servers, self._certificate = director, servers.addresses, servers.certificate
        self._home = director.host.directory("ldirectord")
        self.configuration = self._home / "ld.cf"
        self._child: subprocess.Popen[str] | None = None
        self._script("ipvsadm", f'exec {sys.executable} -m xdpdirector -i {director.paths.name} ipvsadm "$@"')
        self._script("check", f'! [ -e "{self._home}/lame-$3" ]')

    def _script(self, name: str, line: str) -> None:
        path = self._home / name
        path.write_text(f"#!/bin/sh\n{line}\n")
        path.chmod(0o755)

    def lame(self, server: str) -> Path:
        return self._home / f"lame-{server}"

    def configure(self, text: str, quiescent: str) -> None:
        one, two = self.servers
        filled = (GLOBALS + text).format(
            vip=VIP4, one=one, two=two, quiescent=quiescent, script=self._home / "check"
        )
        self.configuration.write_text(filled)

    def start(self) -> None:
        line = f"cd {self._home} && exec {LDIRECTORD} -d {self.configuration} start"
        trusting = {"PERL_LWP_SSL_CA_FILE": str(self._certificate)}
        self._child = self._director.host.popen("sh", "-c", line, role="ldirectord", environment=trusting)

    def reload(self) -> None:
        assert self._child is not None
        self._child.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        if self._child is not None:
            self._child.terminate()
            assert self._child.wait(PATIENCE) == 0
            self._child = None

    @property
    def table(self) -> dict[str, dict[str, int]]:
        """Weights by server, by virtual service."""
        found: dict[str, dict[str, int]] = {}
        service = ""
        lines = command(self._director, "ipvsadm", "-L", "-n").stdout.splitlines()[3:]
        for line in lines:
            words = line.split()
            if words[0] == "->":
                found[service][words[1].rpartition(":")[0]] = int(words[3])
            else:
                service = f"{words[0]} {words[1].rpartition(':')[2]}"
                found[service] = {}
        return found

    def becomes(self, **services: dict[str, int]) -> None:
        """`tcp80={...}`: these servers with these weights."""
        wanted = {f"{name[:3].upper()} {name[3:]}": servers for name, servers in services.items()}
        log = self._director.host.log("ldirectord")

        def as_wanted() -> bool:
            table = self.table
            return all(table.get(service) == servers for service, servers in wanted.items())

        try:
            wait_until(as_wanted, f"the table has {wanted}", PATIENCE, interval=0.2)
        except TimedOutError as error:
            raise AssertionError(f"{self.table}\n{log.read_text(errors='replace')[-4000:]}") from error


@pytest.fixture(scope="module")
def servers(lab: Lab) -> Servers:
    """They serve HTTP as all labs' do, and HTTPS, SMTP and DNS; the director serves HTTP,
    too, as the server of last resort."""
    certificate = lab.director_host.directory("certificate") / "server.pem"
    subject = ["-subj", "/CN=www.example", "-days", "2", "-nodes", "-newkey", "rsa:2048"]
    run("openssl", "req", "-x509", *subject, "-keyout", str(certificate), "-out", f"{certificate}.crt")
    with certificate.open("a") as file:
        file.write(Path(f"{certificate}.crt").read_text())
    script = Path(__file__).parents[1] / "support" / "ldirectord_servers.py"
    for host in lab.backends:
        host.popen(sys.executable, str(script), str(certificate), host.name, role="checked")
    wait_until(
        lambda: all("ready" in host.log("checked").read_text() for host in lab.backends),
        "the backends serve what is checked",
        PATIENCE,
    )
    lab.nginx("director")
    return Servers([backend_address(host.node) for host in lab.backends], Path(f"{certificate}.crt"))


@pytest.fixture(scope="module")
def director(lab: Lab) -> Iterator[LabDirector]:
    """Without a service."""
    with directing(lab, {"interfaces": ["eth0"], "services": {}}) as director:
        yield director


@pytest.fixture(params=["no", "yes"])
def quiescent(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def ldirectord(director: LabDirector, servers: Servers) -> Iterator[Ldirectord]:
    made = Ldirectord(director, servers)
    yield made
    made.stop()
    for server in made.servers:
        made.lame(server).unlink(missing_ok=True)


def answering(lab: Lab) -> set[str]:
    """Who answers at the VIP."""
    line = ["curl", "--silent", "--show-error", "--fail", "--max-time", "5", "--no-keepalive"]
    urls = [f"http://{VIP4}/who"] * 12
    return set(lab.client.run(*line, "--header", "Connection: close", *urls).stdout.split())


def answers_only(lab: Lab, *names: str) -> None:
    wait_until(lambda: answering(lab) == set(names), f"only {names} answer", PATIENCE)


def test_servers_are_killed_and_return(lab: Lab, ldirectord: Ldirectord, quiescent: str) -> None:
    one, two = ldirectord.servers
    gone = {one: 0} if quiescent == "yes" else {}
    ldirectord.configure(HTTP, quiescent)
    ldirectord.start()
    ldirectord.becomes(tcp80={one: 3, two: 1})
    answers_only(lab, "backend1", "backend2")

    lab.nginx("backend1").kill()
    ldirectord.becomes(tcp80={**gone, two: 1})
    answers_only(lab, "backend2")

    lab.nginx("backend2").kill()
    rest = {one: 0, two: 0} if quiescent == "yes" else {}
    ldirectord.becomes(tcp80={**rest, "127.0.0.1": 1})
    answers_only(lab, "director")

    for name in ("backend1", "backend2"):
        lab.nginx(name).start()
    ldirectord.becomes(tcp80={one: 3, two: 1})
    answers_only(lab, "backend1", "backend2")


def test_all_kinds_of_checks_reload_and_stop(ldirectord: Ldirectord) -> None:
    one, two = ldirectord.servers
    both = {one: 1, two: 1}
    ldirectord.configure(HTTP + OTHERS, "no")
    ldirectord.start()
    ldirectord.becomes(tcp80={one: 3, two: 1}, tcp443=both, tcp25=both, udp53=both, tcp21=both)

    ldirectord.lame(two).touch()
    ldirectord.becomes(tcp21={one: 1}, tcp443=both)
    ldirectord.lame(two).unlink()
    ldirectord.becomes(tcp21=both)

    ldirectord.configure(HTTP.replace("gate 3", "gate 5"), "no")
    ldirectord.reload()
    ldirectord.becomes(tcp80={one: 5, two: 1})
    wait_until(lambda: ldirectord.table.keys() == {"TCP 80"}, "the others are gone", PATIENCE)

    ldirectord.stop()
    assert ldirectord.table == {}
