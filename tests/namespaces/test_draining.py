# SPDX-License-Identifier: Apache-2.0
"""Taking a backend away while it has connections: wait for them, refuse, or cut them, as the operator says."""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from tests.support.lab_client import Conversation, answering
from tests.support.lab_director import (
    CHECK,
    MARGIN,
    becomes,
    directing,
    view,
)
from tests.support.transfers import Upload, random_octets
from xdpdirector.client import backend_path, service_path
from xdpdirector.errors import ConflictError, TimedOutError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, backend_address, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

pytestmark = [pytest.mark.root, pytest.mark.smoke, pytest.mark.backends(2)]

LEAVING, STAYING = "backend2", "backend1"
PATH = backend_path(SERVICE, LEAVING)
VIPS = pytest.mark.parametrize("vip", [VIP4, VIP6], ids=["ipv4", "ipv6"])


@pytest.fixture(scope="module", params=["wlc", "mh"])
def running_director(lab: Lab, request: pytest.FixtureRequest) -> Iterator[LabDirector]:
    configuration = web_configuration(
        lab.topology.backend_nodes,
        scheduler=request.param,
        check=CHECK,
        timeouts={"tcp": "3s", "tcpfin": "1s", "syn": "1s", "udp": "1s"},
    )
    with directing(lab, configuration) as director:
        yield director


@pytest.fixture
def director(lab: Lab, running_director: LabDirector) -> LabDirector:
    """With both backends in service, whatever the test before did."""
    present = running_director.client.get(f"{service_path(SERVICE)}/backends")["items"]
    if LEAVING not in {each["name"] for each in present}:
        spec = {"name": LEAVING, "address": backend_address(lab.topology.node(LEAVING))}
        running_director.client.post(f"{service_path(SERVICE)}/backends", spec)
    running_director.client.post(f"{PATH}/enable")
    becomes(running_director, LEAVING, "up")
    return running_director


@contextmanager
def leaving(lab: Lab, vip: Address = VIP4) -> Iterator[Conversation]:
    """A connection to the backend that is to leave."""
    with ExitStack() as stack:
        found: list[Conversation] = []

        def leads_there() -> bool:
            found.append(stack.enter_context(Conversation(lab.client, vip)))
            return found[-1].backend == LEAVING

        wait_until(leads_there, f"a connection to {LEAVING}")
        for other in found[:-1]:
            other.close()
        yield found[-1]


@contextmanager
def meanwhile(call: Callable[[], Any]) -> Iterator[Future[Any]]:
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(call)


def wait_drained(director: LabDirector, timeout: str) -> Any:
    return director.client.get(PATH, {"wait": "drained", "timeout": timeout}, timeout=40.0)


def test_a_drain_waits_for_the_last_connection(lab: Lab, director: LabDirector) -> None:
    with leaving(lab) as conversation, Upload(conversation, "sink-drained", random_octets(32)) as upload:
        drained = director.client.post(f"{PATH}/drain", {"reason": "new memory"})
        newcomers = {answering(lab.client, vip) for vip in (VIP4, VIP6) for _ in range(10)}
        with meanwhile(lambda: wait_drained(director, "30s")) as waiting:
            with pytest.raises(TimedOutError, match="connections left"):
                wait_drained(director, "300ms")
            assert upload.running
            assert not waiting.done()
            upload.finish()
            conversation.close()
            shown = waiting.result(timeout=30.0)

    assert drained["admin"] == "drain"
    assert drained["drain"]["reason"] == "new memory"
    assert newcomers == {STAYING}
    assert lab.nginx(LEAVING).received("sink-drained") == random_octets(32)
    assert (shown["operational"], shown["connections"]["active"]) == ("drained", 0)
    director.client.delete(PATH)


def test_a_drain_can_be_taken_back(lab: Lab, director: LabDirector) -> None:
    with leaving(lab) as conversation:
        director.client.post(f"{PATH}/drain")
        director.client.post(f"{PATH}/enable")

        with leaving(lab):
            assert conversation.who() == LEAVING
    with pytest.raises(ConflictError, match="not draining"):
        wait_drained(director, "1s")


def test_a_backend_with_connections_is_not_removed(lab: Lab, director: LabDirector) -> None:
    with leaving(lab) as conversation:
        with pytest.raises(ConflictError, match=r"connections.*drain.*force"):
            director.client.delete(PATH)

        assert conversation.who() == LEAVING
        assert view(director, LEAVING)["serving"]


def test_removal_waits_when_it_shall_drain(lab: Lab, director: LabDirector) -> None:
    with (
        leaving(lab) as conversation,
        Upload(conversation, "sink-removed", random_octets(32)) as upload,
        meanwhile(lambda: director.client.delete(PATH, {"drain": "30s"}, timeout=40.0)) as removal,
    ):
        wait_until(lambda: view(director, LEAVING)["admin"] == "drain", "the drain")
        assert upload.running
        assert not removal.done()
        upload.finish()
        conversation.close()
        removal.result(timeout=30.0)

    names = [each["name"] for each in director.client.get(f"{service_path(SERVICE)}/backends")["items"]]
    assert names == [STAYING]
    assert lab.nginx(LEAVING).received("sink-removed") == random_octets(32)


def test_removal_gives_up_waiting_and_leaves_it_draining(lab: Lab, director: LabDirector) -> None:
    with leaving(lab) as conversation:
        with pytest.raises(TimedOutError):
            director.client.delete(PATH, {"drain": "500ms"})

        assert view(director, LEAVING)["admin"] == "drain"
        assert conversation.who() == LEAVING


def remove_by_force(director: LabDirector) -> None:
    director.client.delete(PATH, {"force": "true"})


def maintain(director: LabDirector) -> None:
    director.client.post(f"{PATH}/maintenance")


@VIPS
@pytest.mark.parametrize("cut", [remove_by_force, maintain], ids=["force", "maintenance"])
def test_a_cut_connection_is_reset_at_once(
    lab: Lab, director: LabDirector, vip: Address, cut: Callable[[LabDirector], None]
) -> None:
    with (
        leaving(lab, vip) as idle,
        leaving(lab, vip) as busy,
        Upload(busy, "sink-cut", random_octets(32)) as upload,
    ):
        cut(director)
        begun = time.monotonic()
        broken = upload.error(MARGIN)
        with pytest.raises(ConnectionResetError):
            idle.who()
        waited = time.monotonic() - begun

    assert isinstance(broken, ConnectionResetError | BrokenPipeError)
    assert waited < MARGIN
    assert answering(lab.client, vip) == STAYING


def test_a_deadline_cuts_what_is_left(lab: Lab, director: LabDirector) -> None:
    with leaving(lab) as conversation, Upload(conversation, "sink-late", random_octets(32)) as upload:
        director.client.post(f"{PATH}/drain", {"deadline": "500ms", "on_deadline": "cut"})
        broken = upload.error(0.5 + 1.0 + MARGIN)

    assert isinstance(broken, ConnectionResetError | BrokenPipeError)
    assert view(director, LEAVING)["admin"] == "maintenance"
