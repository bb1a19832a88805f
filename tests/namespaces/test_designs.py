# SPDX-License-Identifier: Apache-2.0
"""The files of examples/designs direct real requests, as they stand there: those of directors, backends,
keepalived, BIRD and a router.

Only paths are others: of certificates, and of the command that keepalived asks. vlans/ is tried on a kernel that
has VLANs: tests/vm/test_cards.py.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.support.certificates import Certified, certify, sign
from tests.support.designs import document, text
from tests.support.lab_client import Conversation, answering, await_each
from tests.support.lab_director import command, directing
from xdpdirector.errors import UnreachableError
from xdpdirector.lab import Lab
from xdpdirector.lab.bird import Bird, knows, make_vip_interface
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.pair.keepalived import Keepalived
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root

SCRIPT = Path(__file__).parents[2] / "contrib" / "backend" / "xdpdirector-backend"
SOON = 90.0  # seconds: for what takes one or two on a quiet machine


def make_backends(lab: Lab, design: str) -> None:
    """By backend.conf, from hosts that are none."""
    for host in lab.backends:
        host.run("ip", "address", "flush", "dev", "lo", "scope", "global")
        host.run("sysctl", "-qw", "net.ipv4.conf.all.arp_ignore=0", "net.ipv4.conf.all.arp_announce=0")
        place = host.directory("backend")
        configuration = place / "backend.conf"
        configuration.write_text(text(f"{design}/backend.conf"))
        named = [f"XDPDIRECTOR_BACKEND_CONF={configuration}", f"XDPDIRECTOR_BACKEND_STATE={place}/state"]
        host.run("env", f"PATH={os.environ['PATH']}", *named, "sh", str(SCRIPT), "up")
        lab.nginx(host.name, big_megabytes=8)


def await_answers(lab: Lab) -> None:
    """From each backend for each VIP."""
    for vip in (VIP4, VIP6):
        await_each({host.name for host in lab.backends}, partial(answering, lab.client, vip), SOON)


@pytest.mark.parametrize(
    ("design", "two_arm"), [("one-arm", False), ("two-arms", True), ("other-systems", False)]
)
def test_every_backend_answers(lab_factory: Callable[..., Lab], design: str, two_arm: bool) -> None:
    """Of other-systems/ the director; Linux machines are its backends here."""
    lab = lab_factory(backends=2, two_arm=two_arm)
    make_backends(lab, design)

    with directing(lab, document(f"{design}/director.yaml")):
        await_answers(lab)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certify(tmp_path_factory.mktemp("authority"), "authority")


class Directors:
    """Those of a design with several: each has its file, and a certificate of one authority."""

    def __init__(self, lab: Lab, design: str, authority: Certified) -> None:
        self.lab = lab
        self.all: list[LabDirector] = []
        for number, (host, instance) in enumerate(
            zip(lab.director_hosts, lab.topology.instances, strict=True), 1
        ):
            director = LabDirector(host, instance)
            wanted = document(f"{design}/director{number}.yaml")
            own = sign(authority, host.directory("certificate"), f"director{number}")
            named = {"certificate": own.certificate, "key": own.key, "ca": authority.certificate}
            wanted["sync"]["tls"] = {name: str(path) for name, path in named.items()}
            director.configure(wanted)
            self.all.append(director)

    def start(self) -> None:
        """All have each other's connections, and find all backends up."""
        for director in self.all:
            director.launch()
        for director in self.all:
            wait_until(lambda director=director: self._works(director), f"{director.paths.name} works", SOON)

    def _works(self, director: LabDirector) -> bool:
        try:
            peers = director.client.get("/v1/fleet")["peers"]
            backends = director.client.get("/v1/services/web")["backends"]
        except UnreachableError:
            return False
        states = [peer[way]["state"] for peer in peers for way in ("incoming", "outgoing")]
        return {*states} == {"synced"} and all(each["serving"] for each in backends)

    def close(self) -> None:
        for director in self.all:
            director.stop()
            command(director, "unload", check=False)
            shutil.rmtree(director.paths.state.parent, ignore_errors=True)


@pytest.fixture
def closing() -> Iterator[list[Callable[[], object]]]:
    """What is called at the end, the last one first."""
    calls: list[Callable[[], object]] = []
    yield calls
    for call in reversed(calls):
        call()


def test_a_pair_hands_over_and_connections_go_on(
    lab_factory: Callable[..., Lab], authority: Certified, closing: list[Callable[[], object]]
) -> None:
    lab = lab_factory(backends=2, directors=2)
    make_backends(lab, "pair")
    directors = Directors(lab, "pair", authority)
    closing.append(directors.close)
    directors.start()
    keepalived = [Keepalived(host) for host in lab.director_hosts]
    for number, (each, instance) in enumerate(zip(keepalived, lab.topology.instances, strict=True), 1):
        asked = f"{sys.executable} -m xdpdirector -i {instance.name} status --ready"
        installed = "/usr/bin/xdpdirector -i default status --ready"
        configuration = text(f"pair/keepalived{number}.conf")
        assert installed in configuration
        each.start(configuration.replace(installed, asked))
        closing.append(each.stop)
    first, second = lab.director_hosts

    def has_vips(number: int) -> bool:
        shown = lab.director_hosts[number].run("ip", "-brief", "address", "show", "dev", "eth0").stdout
        return all(f"{vip}/{vip.max_prefixlen}" in shown for vip in (VIP4, VIP6))

    wait_until(lambda: has_vips(0), f"the VIPs are on {first.name}", SOON)
    await_answers(lab)
    with Conversation(lab.client, VIP4) as four, Conversation(lab.client, VIP6) as six:
        before = four.backend, six.backend
        wait_until(lambda: counted(directors.all[1]) >= 2, "the other director knows them", SOON)
        keepalived[0].stop()
        wait_until(lambda: has_vips(1), f"the VIPs are on {second.name}", SOON)

        assert (four.who(), six.who()) == before
    await_answers(lab)


def counted(director: LabDirector) -> int:
    backends = director.client.get("/v1/services/web")["backends"]
    return sum(each["connections"]["active"] for each in backends)


def test_several_directors_are_active_and_one_is_lost(
    lab_factory: Callable[..., Lab], authority: Certified, closing: list[Callable[[], object]]
) -> None:
    design = "several-directors"
    lab = lab_factory(backends=2, directors=3, router=True)
    make_backends(lab, design)
    for host in lab.director_hosts:
        make_vip_interface(host)
    settings = lab.router.directory("router") / "sysctl.conf"
    settings.write_text(text(f"{design}/router-sysctl.conf"))
    lab.router.run("sysctl", "-q", "-p", str(settings))
    router = Bird(lab.router)
    closing.append(router.stop)
    router.start(text(f"{design}/router-bird.conf"))
    directors = Directors(lab, design, authority)
    closing.append(directors.close)
    directors.start()
    announcing = [Bird(host) for host in lab.director_hosts]
    for number, each in enumerate(announcing, 1):
        each.start(text(f"{design}/bird{number}.conf"))
        closing.append(each.stop)
    wait_until(lambda: knows(lab.router, 3), "the router knows three directors", SOON, 0.1)
    await_answers(lab)
    talks = [Conversation(lab.client, vip, timeout=SOON) for vip in (VIP4, VIP6) for _ in range(12)]
    closing.extend(each.close for each in talks)
    before = [each.backend for each in talks]

    lab.director_hosts[1].link_down()
    announcing[1].kill()
    directors.all[1].kill()
    wait_until(lambda: knows(lab.router, 2), "the router knows two directors", SOON, 0.1)

    assert [each.who() for each in talks] == before
    await_answers(lab)
