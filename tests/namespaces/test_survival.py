# SPDX-License-Identifier: Apache-2.0
"""Running connections survive whatever is done to the director and to other backends.

Each row does one thing while an upload, a download and idle connections run and other clients come and go.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from conversation import Conversation
from directing import CHECK, becomes, command, directing, view
from transfers import Download, Upload, random_octets

from xdpdirector import source
from xdpdirector.client import backend_path, service_path
from xdpdirector.lab import Lab
from xdpdirector.lab.clients import Clients
from xdpdirector.lab.configuration import SERVICE, TARGETS, backend_address, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

pytestmark = pytest.mark.root

SPARE = "backend4"
UPLOAD = 32  # megabytes


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    lab = lab_factory(backends=4)
    for host in lab.backends:
        lab.nginx(host.name, big_megabytes=64)
    return lab


@pytest.fixture(scope="module", params=["wlc", "mh"])
def director(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    backends = lab.topology.backend_nodes[:3]
    with directing(lab, web_configuration(backends, scheduler=request.param, check=CHECK)) as director:
        yield director


@dataclass
class Running:
    """What must not break."""

    lab: Lab
    idle: list[Conversation]
    download: Download
    upload: Upload
    clients: Clients

    def assert_whole(self) -> None:
        assert self.download.running
        assert self.upload.running
        sent, arrived = self.upload.finish(), self.download.finish()
        received = self.lab.nginx(self.upload.conversation.backend).received("sink-running")
        self.clients.stop()
        outcomes = {request.outcome for request in self.clients.requests()}

        assert arrived == sha256((self.lab.record.directory / "big").read_bytes()).hexdigest()
        assert received is not None
        assert sha256(received).hexdigest() == sent
        assert [one.who() for one in self.idle] == [one.backend for one in self.idle]
        assert outcomes == {"ok"}


@pytest.fixture
def running(lab: Lab, director: LabDirector) -> Iterator[Running]:
    with ExitStack() as stack:

        def converse(vip: Address) -> Conversation:
            return stack.enter_context(Conversation(lab.client, vip))

        idle = [converse(vip) for vip in (VIP4, VIP6) for _ in range(3)]
        while {one.backend for one in idle} != {"backend1", "backend2", "backend3"}:
            idle.append(converse(VIP4))
        download = stack.enter_context(Download(converse(VIP6)))
        upload = stack.enter_context(Upload(converse(VIP4), "sink-running", random_octets(UPLOAD)))
        clients = stack.enter_context(Clients(lab.client, list(TARGETS), rate=100, kept=0))
        yield Running(lab, idle, download, upload, clients)


def serves(lab: Lab, *backends: str) -> None:
    """Until each has taken a new connection, while none of the new ones ends: the least busy one takes the next."""
    missing = set(backends)
    with ExitStack() as stack:

        def none_missing() -> bool:
            missing.discard(stack.enter_context(Conversation(lab.client, VIP4)).backend)
            return not missing

        wait_until(none_missing, f"{backends} take new connections")


def all_up(director: LabDirector) -> None:
    for number in (1, 2, 3):
        becomes(director, f"backend{number}", "up")


def kill_and_restart(lab: Lab, director: LabDirector) -> None:
    director.kill()
    serves(lab, "backend1", "backend2", "backend3")
    director.start()
    all_up(director)


def stop_and_start(lab: Lab, director: LabDirector) -> None:
    assert director.stop()
    serves(lab, "backend1", "backend2", "backend3")
    director.start()
    all_up(director)


def kill_often(lab: Lab, director: LabDirector) -> None:
    """At whatever it is doing just then: importing, adopting, serving."""
    for age in (0.3, 0.6, 0.9, 1.2):
        director.kill()
        director.launch()
        time.sleep(age)
    director.kill()
    director.start()
    all_up(director)


def add_and_remove(lab: Lab, director: LabDirector) -> None:
    spare = {"name": SPARE, "address": backend_address(lab.topology.node(SPARE))}
    director.client.post(f"{service_path(SERVICE)}/backends", spare)
    serves(lab, SPARE)
    director.client.post(f"{backend_path(SERVICE, SPARE)}/drain")
    wait_until(
        lambda: not view(director, SPARE)["connections"]["active"], f"{SPARE} has none of the new ones"
    )
    director.client.delete(backend_path(SERVICE, SPARE), {"force": "true"})


def drain_and_enable(lab: Lab, director: LabDirector) -> None:
    """Also the drained backend's own connections go on."""
    path = backend_path(SERVICE, "backend2")
    director.client.post(f"{path}/drain")
    serves(lab, "backend1", "backend3")
    director.client.post(f"{path}/enable")
    serves(lab, "backend2")


def change_weights(lab: Lab, director: LabDirector) -> None:
    path = backend_path(SERVICE, "backend3")
    director.client.patch(path, {"weight": 0})
    serves(lab, "backend1", "backend2")
    for weight in (5, 1):
        director.client.patch(path, {"weight": weight})
        serves(lab, "backend3", "backend1")


UNCHANGING = [kill_and_restart, kill_often, stop_and_start, add_and_remove, drain_and_enable, change_weights]


@pytest.mark.parametrize("change", UNCHANGING, ids=lambda change: change.__name__)
def test_connections_survive(
    lab: Lab, director: LabDirector, running: Running, change: Callable[[Lab, LabDirector], None]
) -> None:
    before = lab.director_host.xdp_program()

    change(lab, director)

    running.assert_whole()
    assert lab.director_host.xdp_program() == before


REPLACE = """
import sys
from pathlib import Path
from xdpdirector import attachment, loader
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths
paths = InstancePaths(sys.argv[1])
loader.prepare_in_child(paths, Sizes(), Path(sys.argv[2]))
attachment.attach(paths, ["eth0"])
"""


def test_connections_survive_another_program(
    lab: Lab, director: LabDirector, running: Running, tmp_path: Path
) -> None:
    """What an upgrade does: another program over the same maps, and then the installed one again by `load`."""
    program = Path(shutil.copytree(source.program().parent, tmp_path / "bpf")) / source.program().name
    program.write_text(f"#define NEXT_RELEASE\n{program.read_text()}")
    first = lab.director_host.xdp_program()

    lab.director_host.run(sys.executable, "-c", REPLACE, director.paths.name, str(program))
    second = lab.director_host.xdp_program()
    serves(lab, "backend1")
    command(director, "load", "--config", str(director.configuration))
    third = lab.director_host.xdp_program()
    serves(lab, "backend1")

    running.assert_whole()
    assert None not in (first, second, third)
    assert len({first, second, third}) == 3
    assert director.ready
    assert director.client.get("/v1/stats")["attachments"][0]["program_id"] == third


def test_running_clients_survive_another_scheduler(lab: Lab, director: LabDirector, running: Running) -> None:
    scheduler = director.client.get(service_path(SERVICE))["scheduler"]
    for other in ("mh" if scheduler == "wlc" else "wlc", scheduler):
        director.client.patch(service_path(SERVICE), {"scheduler": other})
        serves(lab, "backend1")

    running.assert_whole()
