# SPDX-License-Identifier: Apache-2.0
"""The configuration as a whole, under traffic: planned, applied, rolled back, read again; drains over a restart."""

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from copy import deepcopy
from datetime import UTC, datetime
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support.lab_client import Conversation, answering
from tests.support.lab_director import (
    CHECK,
    becomes,
    command,
    directing,
    view,
)
from xdpdirector.client import backend_path, service_path
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, backend_address, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

pytestmark = pytest.mark.root

Document = dict[str, Any]


@pytest.fixture(scope="module")
def first(lab: Lab) -> Document:
    """backend1 and backend2."""
    return web_configuration(lab.topology.backend_nodes[:2], check=CHECK)


@pytest.fixture(scope="module")
def second(lab: Lab, first: Document) -> Document:
    """backend1 and backend3, with another service beside."""
    document = deepcopy(first)
    backends = document["services"][SERVICE]["backends"]
    del backends["backend2"]
    backends["backend3"] = {"address": backend_address(lab.topology.node("backend3"))}
    other = {"listeners": [f"{VIP4}:8080/tcp"], "check": {**CHECK.document(), "port": 80}}
    document["services"]["other"] = {**deepcopy(document["services"][SERVICE]), **other}
    return document


@pytest.fixture(scope="module")
def running(lab: Lab, first: Document) -> Iterator[LabDirector]:
    with directing(lab, first) as director:
        yield director


@pytest.fixture
def director(running: LabDirector, first: Document) -> LabDirector:
    """As `first` wants it, and made anew: of what the test before did nothing counts, nor any connection."""
    wanted = deepcopy(first)
    for backend in wanted["services"][SERVICE]["backends"].values():
        backend["admin"] = "enabled"
    running.client.put("/v1/config", {**wanted, "services": {}})
    running.client.put("/v1/config", wanted)
    for name in ("backend1", "backend2"):
        becomes(running, name, "up")
    return running


def to(stack: ExitStack, lab: Lab, backend: str) -> Conversation:
    """A connection that leads there."""
    found: list[Conversation] = []

    def leads_there() -> bool:
        found.append(stack.enter_context(Conversation(lab.client, VIP4)))
        return found[-1].backend == backend

    wait_until(leads_there, f"a connection to {backend}")
    return found[-1]


def newcomers(lab: Lab) -> set[str]:
    return {answering(lab.client, vip) for vip in (VIP4, VIP6) for _ in range(6)}


def test_a_plan_names_who_is_cut_off_and_apply_cuts_no_others(
    lab: Lab, director: LabDirector, second: Document
) -> None:
    file = director.configuration.with_name("second.yaml")
    with file.open("w") as stream:
        YAML().dump(second, stream)
    with ExitStack() as stack:
        staying, leaving = to(stack, lab, "backend1"), to(stack, lab, "backend2")

        planned = command(director, "config", "plan", str(file), check=False)
        unharmed = [staying.who(), leaving.who()]
        applied = command(director, "config", "apply", str(file), "--reason", "moving house")
        becomes(director, "backend3", "up")
        still = staying.who()
        with pytest.raises(ConnectionResetError):
            leaving.who()

    assert planned.returncode == 1
    assert "removed  services/web/backends/backend2" in planned.stdout
    assert "web/backend2" in planned.stdout.partition("cut off")[2]
    assert unharmed == ["backend1", "backend2"]
    assert "as revision" in applied.stdout
    assert still == "backend1"
    assert newcomers(lab) == {"backend1", "backend3"}
    becomes(director, "backend3", "up", service="other")
    assert command(director, "config", "plan", str(file)).returncode == 0


def test_a_rollback_brings_back_what_was(lab: Lab, director: LabDirector, second: Document) -> None:
    before = director.client.get("/readyz")["revision"]
    document = director.client.get("/v1/config")
    director.client.put("/v1/config", second)

    with ExitStack() as stack:
        staying = to(stack, lab, "backend1")
        command(director, "revisions", "rollback", str(before))
        becomes(director, "backend2", "up")

        assert staying.who() == "backend1"
    assert director.client.get("/v1/config") == document
    assert newcomers(lab) == {"backend1", "backend2"}
    assert director.client.get("/v1/revisions", {"limit": 1})["items"][0]["reason"].startswith("roll back to")


def test_a_refused_configuration_changes_nothing_at_all(
    lab: Lab, director: LabDirector, second: Document
) -> None:
    """The last service of it does not fit into the maps; all others would."""
    wanted = deepcopy(second)
    ports = [f"{VIP4}:{port}/udp" for port in range(1000, 1256)]
    for number in range(20):
        listeners = [f"{VIP4}:{2000 + 256 * number + place}/udp" for place in range(len(ports))]
        wanted["services"][f"z{number}"] = {"listeners": listeners}
    before = director.client.get("/v1/config"), director.client.get("/readyz")

    with ExitStack() as stack:
        staying = to(stack, lab, "backend2")
        refused = command(director, "config", "apply", write(director, wanted), check=False)

        assert refused.returncode == 4
        assert "sizes.listeners" in refused.stderr
        assert staying.who() == "backend2"
    assert (director.client.get("/v1/config"), director.client.get("/readyz")) == before
    assert newcomers(lab) == {"backend1", "backend2"}


def write(director: LabDirector, document: Document) -> str:
    file = director.configuration.with_name("wanted.yaml")
    with file.open("w") as stream:
        YAML().dump(document, stream)
    return str(file)


def hang_up(director: LabDirector) -> None:
    assert director.pid
    os.kill(director.pid, signal.SIGHUP)


def test_sighup_during_the_start_is_kept(director: LabDirector, first: Document) -> None:
    """Sent as soon as the process has its lock: the program is still to be checked and the maps to be filled."""
    changed = deepcopy(first)
    changed["services"][SERVICE]["backends"]["backend2"]["weight"] = 7
    lock = director.paths.lock
    director.stop()
    director.launch()
    wait_until(
        lambda: lock.read_text().strip() == str(director.pid), "the daemon has its lock", 30, interval=0.001
    )

    director.configure(changed)
    hang_up(director)
    wait_until(lambda: director.pid is None or director.ready, "the daemon is ready, or has ended")

    assert director.exit_status is None
    wait_until(lambda: view(director, "backend2")["weight"] == 7, "the file is read again")
    director.configure(first)
    hang_up(director)
    wait_until(lambda: view(director, "backend2")["weight"] == 1, "the file is read once more")


def test_sighup_takes_the_file_in_again(lab: Lab, director: LabDirector, first: Document) -> None:
    changed = deepcopy(first)
    changed["services"][SERVICE]["backends"]["backend2"]["weight"] = 5
    with ExitStack() as stack:
        running = to(stack, lab, "backend2")

        director.configure(changed)
        hang_up(director)
        wait_until(lambda: view(director, "backend2")["weight"] == 5, "the file is read again")
        director.configuration.write_text("services: [")
        hang_up(director)
        wait_until(lambda: director.client.get("/readyz")["warnings"], "the broken file is told")
        broken = director.client.get("/readyz")
        director.configure({**changed, "mode": "generic"})
        hang_up(director)
        wait_until(
            lambda: "restart" in str(director.client.get("/readyz")["warnings"]), "a restart is asked for"
        )
        director.configure(first)
        hang_up(director)
        wait_until(lambda: not director.client.get("/readyz")["warnings"], "all is well again")

        assert broken["ready"]
        assert "not merged" in broken["warnings"][0]
        assert running.who() == "backend2"
        assert view(director, "backend2")["weight"] == 1


def test_sighup_cuts_nobody_off(lab: Lab, director: LabDirector, first: Document) -> None:
    """Not who runs on a backend that was made at run time, nor on one that the file does not have any more."""
    spare = {"name": "backend3", "address": backend_address(lab.topology.node("backend3"))}
    director.client.post(f"{service_path(SERVICE)}/backends", spare)
    becomes(director, "backend3", "up")
    changed = deepcopy(first)
    del changed["services"][SERVICE]["backends"]["backend2"]
    changed["services"][SERVICE]["check"]["interval"] = "600ms"

    with ExitStack() as stack:
        running = [stack.enter_context(Conversation(lab.client, VIP4)) for _ in range(9)]
        director.configure(changed)
        hang_up(director)
        wait_until(lambda: view(director, "backend2")["admin"] == "drain", "backend2 drains")
        during = [each.who() for each in running]
        check = director.client.get(service_path(SERVICE))["check"]
        new = newcomers(lab)
        for each in running:
            if each.backend == "backend2":
                each.close()
        wait_until(lambda: "backend2" not in backends(director), "backend2 is gone", 15.0)

        assert during == [each.backend for each in running]
        assert set(during) == {"backend1", "backend2", "backend3"}
        assert check["interval"] == "600ms"
        assert new == {"backend1", "backend3"}
        staying = [each for each in running if each.backend != "backend2"]
        assert [each.who() for each in staying] == [each.backend for each in staying]
    director.configure(first)
    hang_up(director)
    wait_until(lambda: "backend2" in backends(director), "backend2 is back with the file")


def backends(director: LabDirector) -> set[str]:
    return {each["name"] for each in director.client.get(service_path(SERVICE))["backends"]}


@pytest.mark.parametrize("change", [{"ring_slots": 4093}, {"hash": "address"}], ids=["slots", "hash"])
def test_a_restart_with_another_ring_in_the_file_moves_no_flow(
    lab: Lab, director: LabDirector, first: Document, change: Document
) -> None:
    hashing, other = deepcopy(first), deepcopy(first)
    hashing["services"][SERVICE]["scheduler"] = "mh"
    other["services"][SERVICE].update({"scheduler": "mh", **change})
    director.configure(hashing)
    hang_up(director)
    wait_until(
        lambda: director.client.get(service_path(SERVICE))["scheduler"] == "mh", "the file is read again"
    )

    with ExitStack() as stack:
        running = [stack.enter_context(Conversation(lab.client, VIP4)) for _ in range(8)]
        director.stop()
        director.configure(other)
        director.start()
        warnings = director.client.get("/readyz")["warnings"]

        assert [each.who() for each in running] == [each.backend for each in running]
    assert "lose their backends" in warnings[0]
    director.configure(first)
    hang_up(director)
    wait_until(lambda: not director.client.get("/readyz")["warnings"], "all is well again")


def test_a_drain_goes_on_over_a_restart(lab: Lab, director: LabDirector) -> None:
    path = backend_path(SERVICE, "backend2")
    with ExitStack() as stack:
        running = [to(stack, lab, "backend2") for _ in range(3)]
        director.client.post(
            f"{path}/drain", {"reason": "new memory", "deadline": "1h", "on_deadline": "cut"}
        )
        before = view(director, "backend2")["drain"]
        director.kill()
        director.start()
        after = view(director, "backend2")["drain"]
        running[0].close()
        wait_until(lambda: view(director, "backend2")["drain"]["packets_per_second"] is not None, "a rate")
        later = view(director, "backend2")["drain"]

        fixed = ("since", "reason", "deadline", "on_deadline", "connections_at_start")
        assert {field: after[field] for field in fixed} == {field: before[field] for field in fixed}
        assert (before["reason"], before["on_deadline"]) == ("new memory", "cut")
        assert before["connections_at_start"] >= 3
        assert later["remaining"] < before["remaining"]
        began = datetime.fromisoformat(before["since"])
        assert 0 < later["oldest_at_least"] <= (datetime.now(UTC) - began).total_seconds()
        assert [one.who() for one in running[1:]] == ["backend2"] * 2
        assert newcomers(lab) == {"backend1"}


def test_a_deadline_that_passes_while_nobody_runs_is_kept_at_the_start(
    lab: Lab, director: LabDirector
) -> None:
    path = backend_path(SERVICE, "backend2")
    with ExitStack() as stack:
        running = to(stack, lab, "backend2")
        drain = director.client.post(f"{path}/drain", {"deadline": "500ms", "on_deadline": "cut"})["drain"]
        director.kill()
        deadline = datetime.fromisoformat(drain["deadline"])
        unharmed = running.who()
        wait_until(lambda: datetime.now(UTC) > deadline, "the deadline has passed")
        director.start()
        wait_until(lambda: view(director, "backend2")["admin"] == "maintenance", "it is cut off")

        assert unharmed == "backend2"

        def is_cut() -> bool:
            """The data plane has the change a moment after it is wanted."""
            try:
                running.who()
            except ConnectionResetError:
                return True
            return False

        wait_until(is_cut, "the running connection is cut")
