# SPDX-License-Identifier: Apache-2.0
"""A lab is set up and taken down: it leaves nothing, whatever became of the process that built it."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from xdpdirector.errors import ConflictError, NotFoundError
from xdpdirector.lab import Lab
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.lab import all_names, kept_by, take_down
from xdpdirector.lab.lab_state import ROOT, Record
from xdpdirector.lab.network import namespaces
from xdpdirector.lab.processes import Process, inside
from xdpdirector.lab.status import status_text
from xdpdirector.lab.topology import Topology
from xdpdirector.lab.waiting import wait_until
from xdpdirector.paths import InstancePaths

pytestmark = pytest.mark.root
TRIAL = "t_trial"


@pytest.fixture
def trial_name() -> Iterator[str]:
    """A lab of this name is cleared before and after."""
    take_down(TRIAL)
    yield TRIAL
    take_down(TRIAL)


def leftovers(name: str) -> list[object]:
    paths = Topology(name).instance
    files = [ROOT / name, paths.run, paths.pins, paths.state.parent]
    return [*namespaces(name), *(path for path in files if path.exists())]


def test_nothing_is_left_after_the_block(trial_name: str) -> None:
    with Lab(trial_name, backends=1) as lab:
        child = lab.client.popen("sleep", "60", role="sleeper")
        for path in (lab.topology.instance.run, lab.topology.instance.state.parent):
            path.mkdir(parents=True)

    assert child.returncode == -signal.SIGKILL
    assert leftovers(trial_name) == []


def test_a_disk_that_a_killed_run_left_is_taken_away(trial_name: str) -> None:
    state = InstancePaths(f"lab-{trial_name}").state.parent
    state.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(state)], check=True)

    with Lab(trial_name, backends=1) as lab:
        assert lab.topology.instance.state.parent == state
        assert not state.is_mount()

    assert not state.exists()


def test_nothing_is_left_when_building_fails(
    trial_name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    impostor = tmp_path / "ethtool"
    impostor.write_text("#!/bin/sh\necho no such feature >&2\nexit 1\n")
    impostor.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    with pytest.raises(LabError, match="no such feature"):
        Lab(trial_name, backends=1).up()

    assert leftovers(trial_name) == []


HOLDER = """
import sys, time
from xdpdirector.lab import Lab
with Lab(sys.argv[1], backends=1) as lab:
    lab.nginx("backend1")
    outside = lab.client.popen("unshare", "--net", "sleep", "300", role="outside")
    print("up", outside.pid, flush=True)
    time.sleep(300)
"""


@pytest.fixture
def holder(trial_name: str) -> Iterator[tuple[subprocess.Popen[str], Process]]:
    """Another process with a lab, and one that it started and that has left the lab's namespaces."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, trial_name], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout
        word, pid = child.stdout.readline().split()
        assert word == "up"
        process = Process.of(int(pid))
        wait_until(lambda: process not in inside(namespaces(TRIAL)), "the process has left the namespace")
        yield child, process
        child.kill()


def test_lab_of_a_living_process_is_left_alone(holder: tuple[subprocess.Popen[str], Process]) -> None:
    child, _ = holder

    with pytest.raises(ConflictError, match=f"process {child.pid} "):
        Lab(TRIAL).up()
    with pytest.raises(ConflictError, match=f"process {child.pid} "):
        take_down(TRIAL)

    assert len(namespaces(TRIAL)) == 4


def test_name_that_is_taken_gets_a_number(holder: tuple[subprocess.Popen[str], Process]) -> None:
    with Lab(TRIAL, backends=1, numbered=True) as lab:
        name, standing = lab.topology.name, len(namespaces(lab.topology.name))
        first = len(namespaces(TRIAL))

    assert (name, standing, first) == (f"{TRIAL}_2", 4, 4)
    assert leftovers(f"{TRIAL}_2") == []


def test_lab_of_a_living_process_is_not_cleared_with_all_others(
    holder: tuple[subprocess.Popen[str], Process],
) -> None:
    child, _ = holder
    kept = kept_by(TRIAL)
    child.kill()
    child.wait()

    assert f"process {child.pid} " in (kept or "")
    assert kept_by(TRIAL) is None


def test_lab_that_stays_is_cleared_by_its_own_checkout_alone(trial_name: str, tmp_path: Path) -> None:
    Lab(trial_name, backends=1).up(stay=True)
    file = ROOT / trial_name / "lab.json"
    document = json.loads(file.read_text())

    def kept(checkout: Path) -> str | None:
        file.write_text(json.dumps({**document, "checkout": str(checkout)}))
        return kept_by(trial_name)

    assert kept_by(trial_name) is None
    assert kept(tmp_path) == f"the checkout {tmp_path}"
    assert kept(tmp_path / "removed since") is None


def test_shell_names_its_host_and_finds_the_command(trial_name: str, tmp_path: Path) -> None:
    Lab(trial_name, backends=1).up(stay=True)
    (tmp_path / ".bashrc").write_text("PS1='elsewhere> '\nPATH=/usr/bin:/bin\n")
    command = [sys.executable, "-m", "xdpdirector", "lab", "exec", "--name", trial_name, "backend1"]
    terminal, end = pty.openpty()
    shell = subprocess.Popen(
        command,
        stdin=end,
        stdout=end,
        stderr=end,
        start_new_session=True,
        env={
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
            "HOME": str(tmp_path),
            "SHELL": "/bin/bash",
            "TERM": "dumb",
        },
    )
    os.close(end)
    os.write(terminal, b"command -v xdpdirector; echo $XDPDIRECTOR_INSTANCE; exit\n")
    said = b""
    with suppress(OSError):  # EIO: the other end is closed
        while piece := os.read(terminal, 4096):
            said += piece
    os.close(terminal)

    lines = said.decode().splitlines()
    assert shell.wait(30) == 0
    assert any(line.startswith("backend1# ") for line in lines), lines
    assert str(Path(sys.executable).parent / "xdpdirector") in lines
    assert f"lab-{trial_name}" in lines


@pytest.mark.parametrize("way", ["up", "down"])
def test_killed_owner_leaves_nothing_to_the_next(
    holder: tuple[subprocess.Popen[str], Process], way: str
) -> None:
    child, outside = holder
    inhabitants = inside(namespaces(TRIAL))
    child.kill()
    child.wait()
    assert namespaces(TRIAL)
    assert outside.alive
    assert "left by a process that died" in status_text(Topology(TRIAL, 1))

    if way == "up":
        with Lab(TRIAL, backends=2):
            assert len(namespaces(TRIAL)) == 5
            assert Record(TRIAL).owner == Process.of(os.getpid())
    else:
        take_down(TRIAL)

    assert inhabitants
    assert not any(process.alive for process in [*inhabitants, outside])
    assert leftovers(TRIAL) == []


def test_process_with_a_recycled_number_is_spared(trial_name: str) -> None:
    with subprocess.Popen(["sleep", "60"]) as bystander:
        real = Process.of(bystander.pid)
        stale = Process(bystander.pid, real.started - 1)
        try:
            assert not stale.alive
            assert not stale.send(signal.SIGKILL)
            assert real.alive
        finally:
            bystander.kill()


# Where a lab may be started: nothing is mounted on /sys/fs/bpf, process 1 may not be looked at, or /proc has the
# numbers of another PID namespace.
BARE = {
    "no bpffs": ("--mount-proc", "true"),
    "process 1 hidden": ("--mount-proc", "mount -t tmpfs tmpfs /proc/1/ns"),
    "/proc of another namespace": ("--fork", "true"),
}
FIRST = """
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import web_configuration
from xdpdirector.lab.processes import inside
from xdpdirector.lab.topology import VIP4
with Lab("t_bare", backends=1) as lab:
    lab.nginx("backend1")
    director = lab.director(web_configuration(lab.topology.backend_nodes))
    director.wait_serving(60.0)
    print(lab.client.run("curl", "--silent", f"http://{VIP4}/who").stdout.strip())
    serving = director.pid in [process.pid for process in inside([lab.director_host.node.namespace_path])]
    print("its process is found" if serving else "its process is missing")
    director.kill()
    director.start()
    lab.nginx("backend1").kill()
print("down")
"""


@pytest.mark.parametrize(("option", "first"), BARE.values(), ids=BARE.keys())
def test_lab_stands_where_nothing_was_prepared(option: str, first: str) -> None:
    script = f'umount /sys/fs/bpf && {first} && exec "$@"'
    private = ["unshare", "--mount", "--pid", "--fork", "--kill-child", option, "sh", "-c", script, "sh"]

    done = subprocess.run(
        [*private, sys.executable, "-c", FIRST], capture_output=True, text=True, check=False, timeout=600
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["backend1", "its process is found", "down"]


def test_a_lab_elsewhere_takes_no_mount_away() -> None:
    """A lab beside this mount namespace, on the directory that is below the mount of this one."""
    elsewhere = 'umount /var/lib/xdpdirector && exec "$@"'
    command = [
        sys.executable,
        "-c",
        "from xdpdirector.lab import Lab\nwith Lab('t_beside', backends=1): pass",
    ]

    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", elsewhere, "sh", *command],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )

    assert done.returncode == 0, done.stderr
    assert Path("/var/lib/xdpdirector").is_mount()


STRANGE_NUMBERS = """
import os, subprocess, sys
from pathlib import Path
from xdpdirector.system import procfs
from xdpdirector.lab.processes import Process, stop
from xdpdirector.lab.waiting import wait_until
with subprocess.Popen(["sleep", "60"]) as child:
    place = procfs.directory(child.pid)
    assert not procfs.is_ours()
    assert procfs.pid(place) == child.pid
    wait_until(lambda: (place / "comm").read_text().strip() == "sleep", "it is sleep")
    assert procfs.pid(Path("/proc") / sys.argv[1]) is None, "a process outside has no number here"
    process = Process.of(child.pid)
    assert process.alive
    assert process.command == "sleep 60"
    assert stop(process)
assert not process.alive
print(child.returncode)
"""


def test_process_is_itself_where_proc_has_other_numbers() -> None:
    private = ["unshare", "--pid", "--fork", "--kill-child"]

    done = subprocess.run(
        [*private, sys.executable, "-c", STRANGE_NUMBERS, str(os.getpid())],
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stdout) == (0, f"{-signal.SIGTERM}\n"), done.stderr


def test_down_twice_is_as_good_as_once(trial_name: str) -> None:
    Lab(trial_name, backends=1).up(stay=True)

    take_down(trial_name)
    take_down(trial_name)

    assert leftovers(trial_name) == []


def test_lab_that_stays_can_be_found_again(trial_name: str) -> None:
    Lab(trial_name, backends=2).up(stay=True)

    again = Lab.standing(trial_name)

    assert again.topology == Topology(trial_name, 2)
    assert trial_name in all_names()
    assert Record(trial_name).owner is None
    assert "until it is taken down" in status_text(again.topology)
    assert again.client.run("ip", "-brief", "address", "show", "eth0").stdout.startswith("eth0")


def test_lab_that_is_not_up_cannot_be_found(trial_name: str) -> None:
    with pytest.raises(NotFoundError, match=trial_name):
        Lab.standing(trial_name)
