# SPDX-License-Identifier: Apache-2.0
"""Running connections survive whatever is done to the director and to other backends.

Each row does one thing while an upload, a download and idle connections run and other clients come and go.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.lab_director import (
    CHECK,
    becomes,
    command,
    directing,
    view,
)
from tests.support.releases import another_program, replace
from tests.support.running_transfers import Running, all_running, serves
from xdpdirector.client import backend_path, service_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, backend_address, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root

SPARE = "backend4"


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


@pytest.fixture
def running(lab: Lab, director: LabDirector) -> Iterator[Running]:
    with all_running(lab) as running:
        yield running


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


UNCHANGING = [
    pytest.param(kill_and_restart, marks=pytest.mark.smoke),
    kill_often,
    stop_and_start,
    add_and_remove,
    pytest.param(drain_and_enable, marks=pytest.mark.smoke),
    change_weights,
]


@pytest.mark.parametrize("change", UNCHANGING, ids=lambda change: change.__name__)
def test_connections_survive(
    lab: Lab, director: LabDirector, running: Running, change: Callable[[Lab, LabDirector], None]
) -> None:
    before = lab.director_host.xdp_program()

    change(lab, director)

    running.assert_whole()
    assert lab.director_host.xdp_program() == before


def test_connections_survive_another_program(
    lab: Lab, director: LabDirector, running: Running, tmp_path: Path
) -> None:
    """What an upgrade does: another program over the same maps, and then the installed one again by `load`."""
    first = lab.director_host.xdp_program()

    replace(director, another_program(tmp_path))
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


@pytest.mark.smoke
def test_running_clients_survive_another_scheduler(lab: Lab, director: LabDirector, running: Running) -> None:
    scheduler = director.client.get(service_path(SERVICE))["scheduler"]
    for other in ("mh" if scheduler == "wlc" else "wlc", scheduler):
        director.client.patch(service_path(SERVICE), {"scheduler": other})
        serves(lab, "backend1")

    running.assert_whole()
