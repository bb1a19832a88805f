# SPDX-License-Identifier: Apache-2.0
"""Two network namespaces on one cable, and code that runs inside one of them.

director                      peer
eth0  192.0.2.2/24   ======  192.0.2.21/24  eth0
      2001:db8::2/64         2001:db8::21/64
"""

import asyncio
import os
import socket
import subprocess
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from ipaddress import ip_address
from typing import Self, TypeVar

from pyroute2 import netns

T = TypeVar("T")

PREFIX = "nbr-"
DIRECTOR4, DIRECTOR6 = ip_address("192.0.2.2"), ip_address("2001:db8::2")
PEER4, PEER6 = ip_address("192.0.2.21"), ip_address("2001:db8::21")
ABSENT4, ABSENT6 = ip_address("192.0.2.99"), ip_address("2001:db8::99")
FAR4, FAR6 = ip_address("198.51.100.7"), ip_address("2001:db8:ffff::7")
VIP4, VIP6 = ip_address("192.0.2.10"), ip_address("2001:db8::10")
DIRECTOR_MAC, PEER_MAC = bytes.fromhex("020000000002"), bytes.fromhex("020000000021")
OTHER_MAC = bytes.fromhex("0200000000aa")

# A dead neighbour shows in about a second instead of a minute.
QUICK = {
    "base_reachable_time_ms": 300,
    "delay_first_probe_time": 1,
    "interval_probe_time_ms": 200,
    "retrans_time_ms": 100,
    "gc_stale_time": 1,
}


def run(*command: str) -> str:
    """What a command prints; CalledProcessError with its complaint when it fails."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


class Namespace:
    """One of the two."""

    def __init__(self, name: str) -> None:
        self.name = name
        run("ip", "netns", "add", name)
        self.ip("link", "set", "lo", "up")

    def ip(self, *words: str) -> str:
        return run("ip", "-n", self.name, *words)

    def run(self, *command: str) -> str:
        return run("nsenter", f"--net=/var/run/netns/{self.name}", *command)

    def sysctl(self, setting: str) -> None:
        self.run("sysctl", "-qw", setting)

    def set_mac(self, mac: bytes) -> None:
        self.ip("link", "set", "eth0", "address", mac.hex(":"))

    def call(self, function: Callable[[], T]) -> T:
        """In a thread of its own inside the namespace: sockets belong to the namespace of their thread."""

        def entered() -> T:
            netns.setns(f"/var/run/netns/{self.name}", flags=os.O_RDONLY)
            return function()

        with ThreadPoolExecutor(1) as pool:
            return pool.submit(entered).result()

    def run_loop(self, story: Callable[[], Coroutine[None, None, T]]) -> T:
        """A coroutine on a loop of its own inside the namespace."""
        return self.call(lambda: asyncio.run(story()))

    def send(self, frame: bytes) -> None:
        def out() -> None:
            with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as sock:
                sock.sendto(frame, ("eth0", 0))

        self.call(out)


class Pair:
    """Both namespaces and the cable; gone at the end. Those of a run that was killed are cleared first."""

    def __init__(self) -> None:
        clear_dead()
        self.director = Namespace(f"{PREFIX}{os.getpid()}-director")
        self.peer = Namespace(f"{PREFIX}{os.getpid()}-peer")
        self.director.ip(
            "link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", self.peer.name
        )
        self._set_up(self.director, DIRECTOR_MAC, f"{DIRECTOR4}/24", f"{DIRECTOR6}/64")
        self._set_up(self.peer, PEER_MAC, f"{PEER4}/24", f"{PEER6}/64")

    def _set_up(self, namespace: Namespace, mac: bytes, *addresses: str) -> None:
        namespace.sysctl("net.ipv6.conf.eth0.accept_dad=0")
        namespace.set_mac(mac)
        namespace.ip("link", "set", "eth0", "up")
        for address in addresses:
            namespace.ip("address", "add", address, "dev", "eth0")

    def quick_neighbours(self) -> None:
        for family in ("ipv4", "ipv6"):
            for name, value in QUICK.items():
                self.director.sysctl(f"net.{family}.neigh.eth0.{name}={value}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        clear(os.getpid())


def clear_dead() -> None:
    for name in _names():
        pid = int(name.removeprefix(PREFIX).partition("-")[0])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            clear(pid)


def clear(pid: int) -> None:
    for name in _names():
        if name.startswith(f"{PREFIX}{pid}-"):
            with suppress(AssertionError):  # another run cleared it meanwhile
                run("ip", "netns", "delete", name)


def _names() -> list[str]:
    names = [line.split()[0] for line in run("ip", "netns", "list").splitlines()]
    return [name for name in names if name.startswith(PREFIX) and name[len(PREFIX)].isdigit()]


async def until(condition: Callable[[], T], what: str, timeout: float = 10.0) -> float:
    """Seconds until the condition is true; fails saying `what` did not happen."""
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < timeout, f"not within {timeout:g} s: {what}"
        await asyncio.sleep(0.01)
    return time.monotonic() - start
