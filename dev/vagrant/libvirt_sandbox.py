# SPDX-License-Identifier: Apache-2.0
"""libvirt without systemd and without touching the host's: in namespaces of its own, which end with who made them.

`enter`, between `mount_points`, is what the host runs: everything after it lives in new process, mount and network
namespaces, so that virtual machines, bridges, firewall rules and daemons go at once when the first process in there
goes, however it goes. `furnish` is what runs in there first. Knows nothing of Vagrant.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from dev.vm.build_dir import remove
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import run
from xdpdirector.lab.waiting import wait_until

NICE = 10
STARTING = 60.0  # seconds
_DAEMON = "libvirtd"
# Where libvirt and dnsmasq keep things: in here each is a directory of ours.
_PLACES = {
    "lib": Path("/var/lib/libvirt"),
    "cache": Path("/var/cache/libvirt"),
    "log": Path("/var/log/libvirt"),
}
_BELOW = ("boot", "dnsmasq", "images", "network", "qemu", "qemu/nvram", "swtpm")
_ACCOUNTS = {
    Path("/etc/passwd"): "libvirt-qemu:x:64055:64055::/var/lib/libvirt:/usr/sbin/nologin\n",
    Path("/etc/group"): "libvirt-qemu:x:64055:\n",
}
_FILES: Mapping[str, str] = {
    "libvirtd.conf": 'unix_sock_group = "root"\nauth_unix_rw = "none"\nauth_unix_ro = "none"\n',
    "qemu.conf": (
        'user = "root"\ngroup = "root"\ndynamic_ownership = 0\nremember_owner = 0\nsecurity_driver = "none"\n'
        'namespaces = []\ncgroup_controllers = []\nstdio_handler = "file"\n'
    ),
}


def enter(command: list[str]) -> list[str]:
    """The command line that runs `command` in there. The first process buries what has lost its parent."""
    namespaces = ["unshare", "--pid", "--mount", "--net", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    first = ["bash", "-c", '"$@"; exit $?', "den", *command]
    return ["setpriv", "--pdeathsig", "KILL", "--", *namespaces, "--", *first]


@contextmanager
def mount_points(places: Iterable[Path] = tuple(_PLACES.values())) -> Iterator[None]:
    """The directories that ours are mounted on, for as long as the block lasts; made in there they would stay."""
    made = [place for place in places if not place.exists()]
    for place in made:
        place.mkdir()
    try:
        yield
    finally:
        for place in made:
            place.rmdir()


@contextmanager
def furnish(state: Path) -> Iterator[subprocess.Popen[bytes]]:
    """libvirtd, with its things in `state`, for as long as the block lasts. LabError when it does not start."""
    _lay(state)
    run("ip", "link", "set", "lo", "up")
    with (state / "libvirtd.log").open("wb") as log:
        daemon = subprocess.Popen(
            ["nice", "-n", str(NICE), _DAEMON], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        wait_until(
            lambda: daemon.poll() is not None or _answers(), "libvirtd answers", STARTING, interval=0.5
        )
        if daemon.poll() is not None:
            raise LabError(f"libvirtd ended with status {daemon.returncode}; see {state / 'libvirtd.log'}")
        yield daemon
    finally:
        daemon.terminate()
        daemon.wait(STARTING)


def _answers() -> bool:
    return run("virsh", "--connect", "qemu:///system", "list", check=False).returncode == 0


def _lay(state: Path) -> None:
    """Mounts, seen in here only. /sys shows the network namespace that it was mounted in."""
    remove(state)
    run("mount", "-t", "sysfs", "sysfs", "/sys")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/etc/libvirt")
    for name, text in _FILES.items():
        (Path("/etc/libvirt") / name).write_text(text)
    for name, place in _PLACES.items():
        source = state / name
        source.mkdir(parents=True)
        run("mount", "--bind", str(source), str(place))
    for (
        account,
        line,
    ) in _ACCOUNTS.items():  # of a package that is not installed, because it would start libvirt
        known = state / account.name
        known.write_text(account.read_text() + line)
        run("mount", "--bind", str(known), str(account))
    for name in _BELOW:
        (_PLACES["lib"] / name).mkdir(exist_ok=True)
    (Path("/run") / "libvirt").mkdir()
