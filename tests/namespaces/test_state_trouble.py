# SPDX-License-Identifier: Apache-2.0
"""The disk under the director's state is full, read-only or broken: packets do not notice, and the API says so."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.support.lab_client import Conversation, answering
from tests.support.lab_director import CHECK, becomes, directing, view
from xdpdirector.client import backend_path
from xdpdirector.errors import StoreError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.backends(2)]

BOTH = {"backend1", "backend2"}
ROOM = "2m"


@pytest.fixture(scope="module")
def disk(lab: Lab) -> Iterator[Path]:
    """A small one of its own for the director's state."""
    place = lab.topology.instance.state.parent
    place.mkdir(parents=True)
    run("mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", str(place))
    try:
        yield place
    finally:
        run("umount", "--lazy", str(place))
        place.rmdir()


@pytest.fixture(scope="module")
def running(lab: Lab, disk: Path) -> Iterator[LabDirector]:
    with directing(lab, web_configuration(lab.topology.backend_nodes, check=CHECK)) as director:
        yield director


@pytest.fixture
def director(running: LabDirector) -> LabDirector:
    """In peace with its disk: backend2 weighs 7, which the configuration file does not know."""
    running.start()
    wait_until(lambda: writes(running, 7), "a change is stored")
    for name in BOTH:
        becomes(running, name, "up")
    return running


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def writes(director: LabDirector, weight: int) -> bool:
    try:
        director.client.patch(backend_path(SERVICE, "backend2"), {"weight": weight})
    except StoreError:
        return False
    return True


@contextmanager
def full(disk: Path) -> Iterator[None]:
    filler = disk / "filler"
    try:
        fill(filler)
        yield
    finally:
        filler.unlink()


def fill(filler: Path) -> None:
    with filler.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert os.statvfs(filler).f_bavail == 0


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """While nobody has a file open in it."""
    run("mount", "-o", "remount,ro", str(disk))
    try:
        yield
    finally:
        run("mount", "-o", "remount,rw", str(disk))


def served(lab: Lab) -> bool:
    """Every new connection is answered, whoever answers it."""
    return {answering(lab.client, vip) for vip in (VIP4, VIP6) for _ in range(4)} <= BOTH


def warned(director: LabDirector) -> bool:
    said = director.client.get("/readyz")
    return bool(said["ready"]) and any("changes are refused" in each for each in said["warnings"])


def desired(director: LabDirector) -> Any:
    return director.client.get("/v1/config"), director.client.get("/v1/revisions", {"limit": 1})["items"]


def test_a_full_disk_refuses_changes_and_nothing_else(lab: Lab, director: LabDirector, disk: Path) -> None:
    before, program = desired(director), lab.director_host.xdp_program()
    with Conversation(lab.client, VIP4) as conversation:
        with full(disk):
            with pytest.raises(StoreError, match="the disk is full"):
                director.client.delete(backend_path(SERVICE, conversation.backend), {"force": "true"})
            unharmed = conversation.who()
            wait_until(lambda: warned(director), "readiness tells of the disk", 20.0)
            meanwhile = desired(director)
            director.kill()
            alone = served(lab)
            director.start()
            again, attended = desired(director), served(lab)
            told = warned(director)
            refused = not writes(director, 9)

        wait_until(lambda: writes(director, 8), "changes are stored again")
        wait_until(lambda: not warned(director), "readiness tells of nothing")

        assert unharmed == conversation.who() == conversation.backend
    assert meanwhile == again == before
    assert (told, refused) == (True, True)
    assert (alone, attended) == (True, True)
    assert lab.director_host.xdp_program() == program
    assert "Traceback" not in director.log.read_text()


def test_a_read_only_disk_is_read(lab: Lab, director: LabDirector, disk: Path) -> None:
    """What was changed at run time counts, though nothing can be written where it stands."""
    before = desired(director)
    with Conversation(lab.client, VIP4) as conversation:
        director.kill()
        with read_only(disk):
            director.start()
            during, told, refused = desired(director), warned(director), not writes(director, 9)
            forwarding = served(lab)
        wait_until(lambda: writes(director, 8), "changes are stored again")

        assert conversation.who() == conversation.backend
    assert during == before
    assert (told, refused, forwarding) == (True, True, True)


def test_after_a_file_changed_on_a_full_disk_it_counts_nevertheless(
    lab: Lab, director: LabDirector, disk: Path
) -> None:
    file = web_configuration(lab.topology.backend_nodes, check=CHECK)
    file["services"][SERVICE]["backends"]["backend1"]["weight"] = 5
    director.stop()
    director.configure(file)

    with full(disk):
        director.start()
        during, told = view(director, "backend1")["weight"], warned(director)
    wait_until(lambda: not warned(director), "it is stored after all")
    author = director.client.get("/v1/revisions", {"limit": 1})["items"][0]["author"]

    assert (during, told, author) == (5, True, "file")


def test_a_damaged_database_is_kept_aside_and_the_file_counts(
    lab: Lab, director: LabDirector, disk: Path
) -> None:
    program = lab.director_host.xdp_program()
    with Conversation(lab.client, VIP4) as conversation:
        director.stop()
        (disk / "state.db").write_bytes(damaged := os.urandom(16384))
        director.start()
        said = director.client.get("/readyz")
        weight = view(director, "backend2")["weight"]

        assert conversation.who() == conversation.backend
    [aside] = disk.glob("state.db.damaged-*")
    assert aside.read_bytes() == damaged
    assert said["ready"]
    assert str(aside) in said["warnings"][0]
    assert str(aside) in director.log.read_text()
    assert weight == 1
    assert served(lab)
    assert lab.director_host.xdp_program() == program
    assert writes(director, 3)
