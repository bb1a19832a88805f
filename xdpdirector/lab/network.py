# SPDX-License-Identifier: Apache-2.0
"""Makes a lab's namespaces, bridge, cables and addresses, and removes whatever a lab left.

Goes through the `ip` command in batches: a lab stands in a fraction of a second. Knows nothing of owners.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from xdpdirector.errors import InvalidRequestError, NotAllowedError
from xdpdirector.lab import processes
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.host import enter, run
from xdpdirector.lab.lab_state import ROOT, Record
from xdpdirector.lab.topology import NAMESPACES, PREFIX, VIP4, VIP6, Node, Topology
from xdpdirector.loader import bpffs
from xdpdirector.paths import BPFFS, InstancePaths

# No duplicate address detection, no router's advertisements, no reverse path filter (replies go another way).
_EVERYWHERE = {
    "net.ipv6.conf.all.accept_dad": 0,
    "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv6.conf.all.accept_ra": 0,
    "net.ipv6.conf.default.accept_ra": 0,
    "net.ipv4.conf.all.rp_filter": 0,
    "net.ipv4.conf.default.rp_filter": 0,
}
# A backend has the VIP and must not say so: the rule of direct routing (Linux, ip-sysctl.rst, arp_ignore).
_BACKEND = {"net.ipv4.conf.all.arp_ignore": 1, "net.ipv4.conf.all.arp_announce": 2}
# Spreads flows, not addresses, over next hops; sends nobody straight to one of them.
_ROUTER = {
    "net.ipv4.ip_forward": 1,
    "net.ipv6.conf.all.forwarding": 1,
    "net.ipv4.fib_multipath_hash_policy": 1,
    "net.ipv6.fib_multipath_hash_policy": 1,
    "net.ipv4.conf.all.send_redirects": 0,
    "net.ipv4.conf.default.send_redirects": 0,
}
_BEHIND_ROUTER = {"net.ipv6.conf.all.accept_redirects": 0, "net.ipv6.conf.default.accept_redirects": 0}
_TOOLS = {"ip": "iproute2", "nsenter": "util-linux", "sysctl": "procps", "ethtool": "ethtool"}


def check_machine() -> None:
    """NotAllowedError without root, LabError naming a missing command and its Debian package."""
    if not _is_root():
        raise NotAllowedError("a lab is made of network namespaces, which needs root: run it with sudo")
    for tool, package in _TOOLS.items():
        if not shutil.which(tool):
            raise LabError(f"the command '{tool}' is missing: apt-get install {package}")


def _is_root() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective.split()[1], 16) >> 21 & 1)  # CAP_SYS_ADMIN


def build(topology: Topology) -> None:
    """Make everything; nothing of a lab of this name may be there."""
    if not bpffs.is_mounted():
        # Namespaces made by `ip netns add` are mounts of this mount namespace and end with it; so may their pins.
        bpffs.mount()
    _batch(f"netns add {node.namespace}" for node in topology.nodes)
    for node in topology.hosts:  # before there is an interface, for that takes the defaults when it is made
        _sysctl(node, _EVERYWHERE)
    if topology.router:
        _sysctl(topology.router_node, _ROUTER)
        _sysctl(topology.client, _BEHIND_ROUTER)
    _switch(topology)
    for node in topology.hosts:
        _host(node)
    for node in topology.backend_nodes:
        _backend(node)
    if topology.router:
        via = topology.router_node
        routes = [f"route add {VIP4}/32 via {via.ipv4}", f"route add {VIP6}/128 via {via.ipv6}"]
        _batch(routes, topology.client)
    _offloads(topology)


def _batch(lines: Iterable[str], node: Node | None = None) -> None:
    text = "".join(f"{line}\n" for line in lines)
    run("ip", *(["-netns", node.namespace] if node else []), "-batch", "-", text=text)


def _sysctl(node: Node, values: dict[str, int]) -> None:
    run(*enter(node, "sysctl", "-qw", *(f"{key}={value}" for key, value in values.items())))


def _switch(topology: Topology) -> None:
    lines = ["link set lo up"]
    for arm in topology.arms:
        # No learning delay, and no snooping that would hold neighbour discovery back.
        lines += [
            f"link add {arm.bridge} type bridge stp_state 0 forward_delay 0 mcast_snooping 0",
            f"link set {arm.bridge} up",
        ]
    for node in topology.hosts:
        for arm in node.arms:
            lines += [
                f"link add {node.port(arm)} type veth "
                f"peer name {arm.interface} address {node.mac(arm)} netns {node.namespace}",
                f"link set {node.port(arm)} master {arm.bridge} up",
            ]
    _sysctl(topology.switch, {"net.ipv6.conf.all.disable_ipv6": 1, "net.ipv6.conf.default.disable_ipv6": 1})
    _batch(lines, topology.switch)


def _host(node: Node) -> None:
    lines = ["link set lo up"]
    for arm in node.arms:
        lines += [
            f"addr add {node.interface4(arm)} dev {arm.interface}",
            f"addr add {node.interface6(arm)} dev {arm.interface} nodad",
            f"link set {arm.interface} up",
        ]
    _batch(lines, node)


def _backend(node: Node) -> None:
    _sysctl(node, _BACKEND)
    _batch([f"addr add {VIP4}/32 dev lo", f"addr add {VIP6}/128 dev lo nodad"], node)


def _offloads(topology: Topology) -> None:
    """What native XDP on the directors' veths needs, on the switch's ends of these cables.

    A program there gives the port NAPI, without which transmitted frames vanish. `tx off` completes checksums
    and cuts large frames before they enter the director: a native XDP frame carries no promise of either.
    """
    ports = [node.port(arm) for node in topology.director_nodes for arm in node.arms]
    run(*enter(topology.switch, sys.executable, "-m", "xdpdirector.lab.xdp_pass_port", *ports))
    for port in ports:
        run(*enter(topology.switch, "ethtool", "-K", port, "tx", "off"))


def namespaces(name: str) -> list[Path]:
    """What stands in /run/netns under that lab's prefix."""
    return sorted(NAMESPACES.glob(f"{PREFIX}-{name}-*"))


def names() -> list[str]:
    """Labs that left a namespace."""
    return sorted({path.name.split("-")[1] for path in NAMESPACES.glob(f"{PREFIX}-*-*")})


def clear(name: str) -> None:
    """End every process of the lab `name` and remove all that it made; what is missing is passed over."""
    record = Record(name)
    processes.kill(
        lambda: [*(one.process for one in record.started()), *processes.inside(namespaces(name))],
        f"ending what runs in lab '{name}'",
    )
    for path in namespaces(name):
        run("ip", "netns", "del", path.name, check=False)
        path.unlink(missing_ok=True)
    _clear_instances(f"lab-{name}")
    _remove(record.directory)
    _prune(ROOT)


def _clear_instances(name: str) -> None:
    """Pins, run files and state of the lab's director, and of further ones called NAME-SOMETHING.

    The directory of all states stays: another mount namespace may have mounted its own there, as tools/isolated
    does, and a mount goes with the directory that it is on."""
    try:
        paths = InstancePaths(name)
    except InvalidRequestError:
        return
    for path in (paths.pins, paths.run, paths.layouts, paths.state.parent):
        for found in [path, *path.parent.glob(f"{name}-*")]:
            _remove(found)
    for path in (paths.pins, paths.run, paths.layouts):
        _prune(path.parent)
    _prune(BPFFS / "xdpdirector")


def _remove(path: Path) -> None:
    if path.is_mount():  # a disk of its own, as `chaos` gives it
        run("umount", "--lazy", str(path))
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    if path.exists():
        raise LabError(f"{path} cannot be removed: look what holds it and remove it by hand")


def _prune(path: Path) -> None:
    """Remove a directory if nothing is in it."""
    try:
        path.rmdir()
    except OSError:
        return
