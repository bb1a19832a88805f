# SPDX-License-Identifier: Apache-2.0
"""What is done to a director: its network, its processes, its disk and its clock, and how each is undone.

A disturbance is a generator: it disturbs, stops once while that lasts (with what it disturbed, where that is only
known then), and mends. `NAMED` says by which words the director must name it, in its problems or its events, while
it lasts.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from dev.chaos.lab import World
from dev.chaos.storage import damaged_access_database, full_disk, locked_database, read_only_disk
from xdpdirector.lab.processes import inside
from xdpdirector.lab.waiting import wait_until

Steps = Iterator[str]
Disturbance = Callable[[World, dict[str, Any]], Steps]

OTHER_MAC = "02:00:00:00:00:aa"
PORT = "p0-director"  # of the switch
SPARE_DESCRIPTORS = 1  # that a daemon without descriptors still has

UNREACHABLE = "no daemon answers"
"""What the observer notes itself."""

DETAIL = "{detail}"
"""In the words: what it disturbed."""

NAMED: dict[str, str] = {
    "address": "is gone from eth0",
    "carrier": "eth0 is down or has no carrier",
    "mac": "eth0 .*MAC",
    "interface": "eth0 does not exist any more",
    "helper killed": "checks' sockets",
    "helper stalled": "checks' sockets",
    "descriptors": "[Tt]oo many open files|descriptor",
    "clock": "wall clock",
    "disk full": "changes are refused",
    "disk read-only": "changes are refused",
    "database locked": "locked|changes are refused",
    "access database damaged": "access.db",
    "task": f"{DETAIL} failed and is restarted|the [a-z]+ check itself is at fault",
    "daemon killed": UNREACHABLE,
    "daemon restarted": UNREACHABLE,
    "upgrade": "program [0-9]+ runs on eth0",
}


def address(world: World, _arguments: dict[str, Any]) -> Steps:
    world.lab.director_host.run("ip", "addr", "flush", "dev", "eth0")
    yield ""
    _put_addresses_back(world)


def _put_addresses_back(world: World) -> None:
    host = world.lab.director_host
    arm = host.arm("eth0")
    lines = [
        f"addr replace {host.node.interface4(arm)} dev eth0",
        f"addr replace {host.node.interface6(arm)} dev eth0 nodad",
    ]
    host.run("ip", "-batch", "-", text="\n".join(lines) + "\n")


def carrier(world: World, _arguments: dict[str, Any]) -> Steps:
    world.lab.switch.run("ip", "link", "set", PORT, "down")
    yield ""
    world.lab.switch.run("ip", "link", "set", PORT, "up")


def mac(world: World, _arguments: dict[str, Any]) -> Steps:
    host = world.lab.director_host
    host.run("ip", "link", "set", "eth0", "address", OTHER_MAC)
    yield ""
    host.run("ip", "link", "set", "eth0", "address", host.node.mac())


def interface(world: World, _arguments: dict[str, Any]) -> Steps:
    """Deleted and made anew, as a network manager does: the cable ready for native XDP, then the addresses."""
    host, switch = world.lab.director_host, world.lab.switch
    host.run("ip", "link", "delete", "eth0")
    yield ""
    switch.run(
        *("ip", "link", "add", PORT, "type", "veth", "peer", "name", "eth0"),
        *("address", host.node.mac(), "netns", host.node.namespace),
    )
    switch.run("ip", "link", "set", PORT, "master", "br0", "up")
    switch.run("ethtool", "-K", PORT, "tx", "off")
    switch.run(sys.executable, "-m", "xdpdirector.lab.xdp_pass_port", PORT)
    host.run("sysctl", "-qw", "net.ipv6.conf.eth0.accept_dad=0")
    host.run("ip", "link", "set", "eth0", "up")
    _put_addresses_back(world)


def children(pid: int | None) -> list[int]:
    with suppress(OSError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []


def _helpers(world: World) -> tuple[int, int]:
    """Who waits and who serves, of the processes that make the checks' sockets: those that live in the namespace
    which the daemon has a descriptor of. Whoever began as one half may be the other one by now."""

    def found() -> list[tuple[int, int]]:
        lives = inside(_namespaces(world.director.pid))
        inhabitants = {one.pid for one in lives if "xdpdirector.health.socket_helper" in one.command}
        return [(one, child) for one in inhabitants for child in children(one) if child in inhabitants]

    return wait_until(found, "the checks' helper runs", 10.0)[0]


def _namespaces(pid: int | None) -> list[Path]:
    """The network namespaces that a process has open, by its descriptors."""
    with suppress(OSError):
        return [one for one in Path(f"/proc/{pid}/fd").iterdir() if str(one.readlink()).startswith("net:[")]
    return []


def helper_killed(world: World, arguments: dict[str, Any]) -> Steps:
    waits, serves = _helpers(world)
    os.kill(serves if arguments["which"] == "who serves" else waits, signal.SIGKILL)
    yield ""


def helper_stalled(world: World, _arguments: dict[str, Any]) -> Steps:
    _, serves = _helpers(world)
    os.kill(serves, signal.SIGSTOP)
    yield ""
    with suppress(ProcessLookupError):  # the director ends one that does not answer
        os.kill(serves, signal.SIGCONT)


def descriptors(world: World, _arguments: dict[str, Any]) -> Steps:
    """The daemon has those that it has, and hardly another one."""
    world.director.order("descriptors", str(SPARE_DESCRIPTORS))
    yield ""
    world.director.order("descriptors", "-1")


def clock(world: World, arguments: dict[str, Any]) -> Steps:
    world.director.set_clock(arguments["seconds"])
    yield ""
    world.director.set_clock(0)


def task(world: World, arguments: dict[str, Any]) -> Steps:
    yield world.director.fail_task(arguments["number"])


def daemon_killed(world: World, _arguments: dict[str, Any]) -> Steps:
    world.director.kill()
    yield ""
    world.director.start()


def daemon_restarted(world: World, _arguments: dict[str, Any]) -> Steps:
    world.director.stop()
    yield ""
    world.director.start()


def upgrade(world: World, _arguments: dict[str, Any]) -> Steps:
    """To another release of the program, and with a new daemon to the installed one again."""
    director = world.director
    directory = director.host.directory("release")
    line = [sys.executable, "-m", "dev.chaos.upgrade", director.paths.name, str(directory)]
    director.host.run(*line, str(director.configuration), timeout=240.0)
    time.sleep(1.5)  # the daemon looks at the programs once a second
    yield ""
    director.stop()
    director.start()


DISTURBANCES: dict[str, Disturbance] = {
    "address": address,
    "carrier": carrier,
    "mac": mac,
    "interface": interface,
    "helper killed": helper_killed,
    "helper stalled": helper_stalled,
    "descriptors": descriptors,
    "clock": clock,
    "disk full": full_disk,
    "disk read-only": read_only_disk,
    "database locked": locked_database,
    "access database damaged": damaged_access_database,
    "task": task,
    "daemon killed": daemon_killed,
    "daemon restarted": daemon_restarted,
    "upgrade": upgrade,
}
NEEDS_USER = ("helper killed", "helper stalled")
"""Without a user of its own the daemon has no helper."""
