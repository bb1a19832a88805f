# SPDX-License-Identifier: Apache-2.0
"""The doctor on a made-up machine: one thing broken at a time, and what is said of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_machine import (
    CARD,
    HEALTHY,
    PATHS,
    PEER,
    PID,
    FakeHost,
)
from xdpdirector.cli.doctor import show
from xdpdirector.doctor.finding import Finding, Level
from xdpdirector.doctor.machine import Kernel
from xdpdirector.doctor.run import examine, is_well
from xdpdirector.doctor.subject import Subject
from xdpdirector.errors import DataplaneError
from xdpdirector.model.configuration import VipsOnDummy
from xdpdirector.model.lvs import LvsSpec
from xdpdirector.model.sync import SyncSpec
from xdpdirector.net.neighbour_requests import Room
from xdpdirector.net.veth_peer import Peer

Break = Callable[[FakeHost], object]
NETWORK_FINDING = {
    "kind": "vip-missing-on-backend",
    "subject": "web/web1",
    "text": "backend web/web1 (192.0.2.21) does not have the VIP 192.0.2.10",
    "evidence": "it was silent 3 times",
    "remedy": "ip address add 192.0.2.10/32 dev lo",
    "since": "2025-01-01T12:00:00Z",
}


def file(path: object, content: str | OSError | None) -> Break:
    def change(host: FakeHost) -> None:
        if content is None:
            del host.machine.files[str(path)]
        else:
            host.machine.files[str(path)] = content

    return change


def machine(**fields: Any) -> Break:
    def change(host: FakeHost) -> None:
        for name, value in fields.items():
            setattr(host.machine, name, value)

    return change


def card(**fields: Any) -> Break:
    return machine(card=replace(CARD, **fields))


def says(document: str, **fields: Any) -> Break:
    return lambda host: host.answers(document, **fields)


def configured(**fields: Any) -> Break:
    def change(host: FakeHost) -> None:
        assert host.subject.configuration
        host.change(configuration=host.subject.configuration.model_copy(update=fields))

    return change


def without_check(host: FakeHost) -> None:
    assert host.subject.configuration
    web = host.subject.configuration.services["web"].model_copy(update={"check": None})
    configured(services={"web": web})(host)


def without_configuration(host: FakeHost) -> None:
    host.change(configuration=None, configuration_error="director.yaml:3:1: unknown key 'servces'")


def dead(host: FakeHost) -> None:
    host.silent()
    del host.machine.files[f"/proc/{PID}"]


def of_instance(name: str) -> Break:
    def change(host: FakeHost) -> None:
        host.machine.instances[9] = name
        card(program_id=9, program="director")(host)

    return change


def gateway(**settings: str) -> Break:
    """It forwards, before the daemon runs; `settings` of its interface."""

    def change(host: FakeHost) -> None:
        dead(host)
        for name, value in settings.items():
            sysctl(f"ipv4.conf.eth0.{name}", value)(host)
        sysctl("ipv4.ip_forward", "1")(host)

    return change


def tunnelled(mtu: int, forward: str = "ipip") -> Break:
    """`web` has its backends behind tunnels; `mtu` of the way there."""

    def change(host: FakeHost) -> None:
        host.machine.mtu = mtu
        assert host.subject.configuration
        web = host.subject.configuration.services["web"].model_copy(update={"forward": forward})
        configured(services={"web": web})(host)

    return change


def two_arms(**fields: Any) -> Break:
    """A second interface in generic mode."""

    def change(host: FakeHost) -> None:
        other = replace(CARD, name="eth1", mode="generic", **fields)
        host.machine.others = (other,)
        configured(interfaces=("eth0", "eth1"))(host)

    return change


def lvs_sync(interface: str, **fields: Any) -> Break:
    """The sync protocol of LVS on a second interface, `eth1`."""

    def change(host: FakeHost) -> None:
        host.machine.others = (replace(CARD, name="eth1", program_id=0, program="", mode="", **fields),)
        spec = LvsSpec.model_validate({"sync": {"role": "backup", "interface": interface}})
        configured(lvs=spec)(host)

    return change


def sysctl(name: str, value: str) -> Break:
    return file(f"/proc/sys/net/{name.replace('.', '/')}", value)


def fill(entries: int, room: int, name: str = "connections") -> Break:
    return says("statistics", maps={name: {"entries": entries, "room": room}})


def old_kernel(host: FakeHost) -> None:
    host.machine.kernel = Kernel("5.10.0", (5, 10))


VIPS = ["192.0.2.10", "2001:db8::10"]


def peered(vips: list[str] = VIPS, there: Sequence[str] = (), **fields: Any) -> Break:
    """With a peer; `vips`, `there`: those that stand here and on it."""
    peer = PEER | {"vips": list(there)} | fields
    return says("fleet", name="this", version="0.2.0", vips=vips, peers=[peer])


LEAVES = {
    "name": "d1", "this": True, "author": "ann", "since": "2026-01-01T00:00:00Z", "reason": "patches",
    "state": "draining",
}  # fmt: skip


def leaving(host: FakeHost) -> None:
    says("fleet", peers=[], leaving=[LEAVES])(host)
    says("ready", ready=False, problems=["this director leaves for maintenance, as ann says: patches"])(host)


def insecure(host: FakeHost) -> None:
    sync = SyncSpec.model_validate({"listen": "192.0.2.1:1", "peers": ["192.0.2.2:1"], "insecure": True})
    configured(sync=sync)(host)


def on_dummy(host: FakeHost) -> None:
    configured(vips=VipsOnDummy(on="dummy"))(host)


def active_too(host: FakeHost) -> None:
    """A VIP on two directors, as with ECMP."""
    on_dummy(host)
    file("/sys/fs/cgroup/system.slice/bird.service", "")(host)
    peered(there=VIPS)(host)


CLOCK = "/sys/devices/system/clocksource/clocksource0/current_clocksource"
JIT = "net/core/bpf_jit_enable"
KEEPER = "/sys/fs/cgroup/system.slice/chrony.service"
UNIT = "/etc/systemd/system/multi-user.target.wants/xdpdirector@host.service"
NO_MEMORY = "MemAvailable: 100000 kB"
NOTHING_HELD = "CapEff:\t0000000000000000"


@pytest.mark.parametrize(
    ("broken", "level", "text", "remedy"),
    [
        pytest.param(without_configuration, "warning", "cannot be used", "correct it", id="configuration"),
        pytest.param(insecure, "warning", "in the clear", "sync.tls", id="insecure"),
        pytest.param(
            peered(outgoing={"state": "refused", "why": "its fleet is 'b'", "lag": None, "records": 0}),
            "error", "are not sent to the director other (192.0.2.2:8651): its fleet", "sync.peers", id="peer",
        ),
        pytest.param(peered(version="0.1.0"), "note", "is of release 0.1.0", "upgrade", id="releases"),
        pytest.param(peered(clock=-3600.0), "warning", "is 3600 s behind", "timesyncd", id="clocks"),
        pytest.param(
            peered(vips=["192.0.2.10"]), "error", "2001:db8::10 stands on no director", "keepalived", id="no VIP"
        ),
        pytest.param(
            peered(there=["192.0.2.10"]), "error", "192.0.2.10 stands on this director and other", "112",
            id="VIP twice",
        ),
        pytest.param(
            leaving, "warning", "this director takes no traffic, as ann wants it since 2026-01-01", "enable d1",
            id="maintenance",
        ),
        pytest.param(on_dummy, "warning", "none runs", "bird-config", id="no BIRD"),
        pytest.param(
            tunnelled(1500),
            "note",
            "'web': its tunnels take packets of 1480 bytes",
            "MSS of 1440 for IPv4 clients, 1420 for IPv6 clients",
            id="tunnels",
        ),
        pytest.param(
            tunnelled(1300, "gue"),
            "warning",
            "packets of IPv6 clients have no room",
            "an MTU of 1308 or more",
            id="tunnels without room for IPv6",
        ),
        pytest.param(
            tunnelled(0), "warning", "no route leads to 192.0.2.21", "ip route add", id="no route to a tunnel's end"
        ),
        pytest.param(without_check, "warning", "'web' has no check", "type: tcp", id="no check"),
        pytest.param(dead, "warning", "no daemon of instance 'host' runs", "systemctl start", id="no daemon"),
        pytest.param(FakeHost.silent, "error", "runs but does not answer", "journalctl", id="daemon hangs"),
        pytest.param(
            says("ready", ready=False, problems=["VIP 192.0.2.10 stands nowhere"]),
            "error", "stands nowhere", "as it says", id="not ready",
        ),
        pytest.param(
            says("ready", warnings=["the disk is full"]), "warning", "the disk is full", "", id="daemon warns"
        ),
        pytest.param(
            says("lan", findings=[NETWORK_FINDING]), "error", "does not have the VIP", "dev lo", id="network"
        ),
        pytest.param(fill(240000, 262144), "warning", "is 92% full", "sizes.connections", id="map full"),
        pytest.param(fill(15000, 16384, "vips"), "warning", "is 92% full", "sizes.listeners", id="VIPs"),
        pytest.param(fill(60, 64, "ports"), "warning", "is 94% full", "its size is fixed", id="ports full"),
        pytest.param(
            fill(900, 1 << 21), "note", "up to three times as fast", "connections: 8192", id="map too large"
        ),
        pytest.param(
            says("statistics", drift_repaired=3), "warning", "3 places", "bpftool", id="drift"
        ),
        pytest.param(
            says("statistics", verdicts={"pass_directed": 1234}),
            "note", "1,234 frames came from backends", "router: true", id="directed",
        ),
        pytest.param(machine(card=None), "error", "eth0 does not exist", "", id="no interface"),
        pytest.param(
            lvs_sync("eth9"), "error", "eth9 of lvs.sync does not exist", "name one", id="no interface for LVS"
        ),
        pytest.param(
            lvs_sync("eth1", up=False), "warning", "eth1 of lvs.sync is down", "ip link set eth1 up",
            id="interface for LVS off",
        ),
        pytest.param(
            lvs_sync("eth1"), "note", "whoever reaches eth1 can say", "only directors reach", id="sync with LVS",
        ),
        pytest.param(
            card(port_fault="interface 'eth0' is a port of the bridge 'br0': Name 'br0'"),
            "error", "is a port of the bridge 'br0'", "name the other", id="port of a bridge",
        ),
        pytest.param(
            machine(others=(replace(CARD, name="eth1", arp_ignore=0),)),
            "note", "eth1 answers ARP for addresses of other", "conf.eth1.arp_ignore=1", id="ARP flux",
        ),
        pytest.param(card(up=False), "error", "switched off", "ip link set eth0 up", id="interface off"),
        pytest.param(card(carrier=False), "error", "no carrier", "cable", id="no carrier"),
        pytest.param(card(program_id=0), "error", "carries no XDP program", "xdpdirector load", id="bare"),
        pytest.param(
            card(program_id=9, program="other"), "error", "somebody else's XDP program 9 'other'", "xdp off",
            id="foreign",
        ),
        pytest.param(
            of_instance("edge"), "error", "eth0 carries the packet program of instance 'edge'",
            "take eth0 out of `interfaces` of instance 'host'", id="another instance's",
        ),
        pytest.param(
            card(program_id=9, program=""), "warning", "nobody may say whose", "root", id="unknown program"
        ),
        pytest.param(
            card(mode="generic", driver="r8169"), "warning", "r8169 is not known", "use a card",
            id="driver without native mode",
        ),
        pytest.param(
            card(mode="generic", mtu=9000), "warning", "an MTU of 9000", "mtu 1500", id="MTU too large"
        ),
        pytest.param(
            card(features={"rx-lro": True}), "warning", "lro is on", "ethtool -K eth0 lro off", id="LRO"
        ),
        pytest.param(
            card(features={"rx-vlan-hw-parse": True}), "note", "VLAN tags", "rxvlan off", id="VLAN stripped"
        ),
        pytest.param(card(features={}), "note", "not known", "", id="offloads unknown"),
        pytest.param(card(queues=(2, 8)), "warning", "2 of 8 queues", "combined 4", id="too few queues"),
        pytest.param(card(queues=(1, 1)), "note", "one queue", "", id="one queue"),
        pytest.param(
            card(driver="virtio_net", transmit_queues=4), "note", "takes locks", "8 queue pairs", id="virtio"
        ),
        pytest.param(machine(bcc=None), "error", "BCC is missing", "python3-bpfcc", id="no BCC"),
        pytest.param(
            machine(bcc=[Path("/venv/bcc")]), "error", "unrelated one from PyPI", "uninstall bcc", id="impostor"
        ),
        pytest.param(
            file("/usr/include/linux/bpf.h", None), "error", "headers are missing", "linux-libc-dev", id="headers"
        ),
        pytest.param(old_kernel, "error", "too old", "6.1 or newer", id="old kernel"),
        pytest.param(sysctl("core.bpf_jit_enable", "0"), "warning", "interpreted", "bpf_jit_enable=1", id="JIT"),
        pytest.param(sysctl("core.bpf_jit_harden", "2"), "note", "hardened", "=1", id="hardened"),
        pytest.param(
            file("/proc/sys/kernel/bpf_stats_enabled", "1"), "note", "are counted", "=0", id="BPF statistics"
        ),
        pytest.param(
            file("/sys/kernel/security/lockdown", "none integrity [confidentiality]"), "error", "locked down",
            "lockdown=integrity", id="lockdown",
        ),
        pytest.param(file(CLOCK, "acpi_pm"), "note", "acpi_pm is slow", "tsc", id="slow clock"),
        pytest.param(
            machine(tables={4: Room(0, 1)}), "warning", "room for 1", "ipv4.neigh.default.gc_thresh3=",
            id="neighbours",
        ),
        pytest.param(
            machine(tables={6: Room(900, 1024)}), "warning", "ipv6 neighbour table is nearly", "gc_thresh3=4096",
            id="neighbours of others",
        ),
        pytest.param(sysctl("ipv4.icmp_echo_ignore_all", "1"), "note", "ping", "=0", id="no ping"),
        pytest.param(
            sysctl("ipv4.conf.eth0.arp_ignore", "8"), "error", "answers no ARP on eth0", "arp_ignore=0", id="ARP"
        ),
        pytest.param(
            sysctl("ipv4.conf.all.log_martians", "1"), "note", "martian", "log_martians=0", id="martians"
        ),
        pytest.param(sysctl("ipv4.ip_forward", "1"), "note", "needs that not", "ip_forward=0", id="forwarding"),
        pytest.param(
            gateway(), "warning", "dropped at eth0: they come from a VIP",
            "net.ipv4.conf.eth0.accept_local=1 net.ipv4.conf.eth0.rp_filter=2", id="gateway of its backends",
        ),
        pytest.param(
            gateway(accept_local="1", rp_filter="1"), "warning", "dropped at eth0: they come", "rp_filter=2",
            id="gateway with strict rp_filter",
        ),
        pytest.param(
            card(kind="veth", peer=Peer("p0", False, False)), "error", "p0 has no XDP program",
            "ethtool -K p0 tx off", id="veth without a program on its peer",
        ),
        pytest.param(
            card(kind="veth", peer=Peer("p0", True, True)), "error", "p0 leaves checksums",
            "mode: generic", id="veth with checksums left to its peer",
        ),
        pytest.param(card(kind="veth"), "note", "cannot be looked at", "as root", id="veth, peer unseen"),
        pytest.param(
            card(kind="veth", mode="", program_id=0, program="", peer=Peer("p0", False, True)), "note",
            "takes generic mode", "XDP_PASS", id="veth before the start",
        ),
        pytest.param(
            card(transmit_errors=9), "warning", "lost 9 frames that XDP could not transmit", "queues",
            id="transmit errors",
        ),
        pytest.param(
            two_arms(kind="veth", peer=Peer("p1", False, True)), "warning", "uploads of more than the MTU stall",
            "ethtool -K p1 tx off", id="generic mode between two veths",
        ),
        pytest.param(
            two_arms(features={"rx-gro": True}), "warning", "uploads of more than the MTU stall",
            "ethtool -K eth1 gro off", id="generic mode between two cards",
        ),
        pytest.param(machine(mounted=False), "error", "no bpffs", "mount -t bpf", id="no bpffs"),
        pytest.param(file(PATHS.pins, None), "note", "no data plane", "", id="nothing loaded"),
        pytest.param(file("/proc/meminfo", NO_MEMORY), "warning", "97 MiB of memory", "sizes", id="memory"),
        pytest.param(machine(free_bytes=5 << 20), "error", "5 MiB are free", "make room", id="disk full"),
        pytest.param(machine(free_bytes=50 << 20), "warning", "50 MiB are free", "make room", id="disk"),
        pytest.param(file(PATHS.state, "garbage"), "error", "damaged", "backup", id="database"),
        pytest.param(file(PATHS.access, "garbage"), "error", "no token is valid", "token add", id="access"),
        pytest.param(file(PATHS.state, None), "note", "no stored state yet", "", id="no database"),
        pytest.param(
            file(f"/proc/{PID}/status", NOTHING_HELD), "error", "lacks CAP_NET_ADMIN and CAP_NET_RAW",
            "AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW", id="capabilities",
        ),
        pytest.param(
            file("/proc/self/status", NOTHING_HELD), "note", "sees only what any user may", "root", id="not root"
        ),
        pytest.param(file("/run/systemd/system", None), "note", "systemd does not run", "", id="no systemd"),
        pytest.param(file(UNIT, None), "warning", "does not start at boot", "enable xdpdirector@host", id="boot"),
        pytest.param(file(KEEPER, None), "note", "keep the clock", "timesyncd", id="clock"),
        pytest.param(configured(vips="external"), "warning", "keepalived", "vips: manage", id="keepalived"),
    ],
)  # fmt: skip
def test_what_is_broken_is_named_with_evidence_and_remedy(
    broken: Break, level: str, text: str, remedy: str
) -> None:
    host = FakeHost()
    broken(host)

    found = [each for each in host.complaints() if text in each.text]

    assert len(found) == 1, [each.text for each in host.complaints()]
    assert (found[0].level, bool(found[0].evidence)) == (Level(level), True)
    assert remedy in found[0].remedy
    assert found[0].remedy or level == "note"


def test_who_is_well_is_told_so() -> None:
    host = FakeHost()

    findings = host.findings()

    assert [each.text for each in findings if each.level is not Level.OK] == []
    assert is_well(findings)
    assert {each.topic for each in findings} == {
        *("configuration", "daemon", "network", "interfaces", "program", "kernel", "settings", "storage"),
        *("rights", "start-up"),
    }


@pytest.mark.parametrize("vips", [{}, {"192.0.2.10": ["eth0"]}], ids=["elsewhere", "here"])
def test_what_becomes_of_connections_of_the_hosts_own_is_said(vips: dict[str, list[str]]) -> None:
    host = FakeHost()
    host.answers("lan", vips=vips)

    said = [each.evidence for each in host.findings() if "its own connections to them" in each.text]

    assert said == [f"GET /v1/lan, vips: {vip}" for vip in vips]


@pytest.mark.parametrize(
    "whole",
    [peered(), says("fleet", peers=[PEER | {"vips": None}], version="0.2.0"), active_too],
    ids=["pair", "unsaid", "several"],
)
def test_nothing_is_wrong_with_a_fleet(whole: Break) -> None:
    host = FakeHost()
    whole(host)

    assert [each.text for each in host.complaints()] == []


def test_a_warning_or_an_error_is_not_well() -> None:
    assert is_well([Finding(Level.NOTE, "", "")])
    assert not is_well([Finding(Level.WARNING, "", "")])
    assert not is_well([Finding(Level.ERROR, "", "")])


def test_what_the_network_finds_is_not_said_twice() -> None:
    host = FakeHost()
    host.answers("lan", findings=[NETWORK_FINDING])
    host.answers("ready", warnings=[NETWORK_FINDING["text"]])

    assert [each.topic for each in host.complaints()] == ["network"]


def test_interfaces_of_different_mtus_lose_large_frames() -> None:
    host = FakeHost()
    configured(interfaces=("eth0", "eth1"))(host)
    host.machine.others = (replace(CARD, name="eth1", mtu=1400),)

    [finding] = host.complaints("interfaces")

    assert (finding.level, finding.evidence) == (Level.WARNING, "netlink: eth0 1500, eth1 1400")


def test_it_is_shown_by_topics_with_what_was_seen_and_what_to_do() -> None:
    host = FakeHost()
    host.machine.card = replace(CARD, up=False)

    shown = [str(part) for part in show(host.findings("configuration", "interfaces"))]

    assert shown[0] == "configuration"
    at = shown.index("  ERROR   eth0 is switched off")
    assert shown[at + 1 : at + 3] == [
        "          seen: netlink: IFF_UP is not set",
        "          remedy: ip link set eth0 up",
    ]
    assert shown[-1] == "1 error, 0 warnings, 0 notes"


def test_locked_memory_counts_on_an_old_kernel_only() -> None:
    host = FakeHost()
    host.machine.kernel = Kernel("5.10.0", (5, 10))

    [finding] = host.complaints("storage")

    assert "locked memory" in finding.text


@pytest.mark.parametrize(
    ("problem", "level"),
    [
        (PermissionError(13, "Permission denied", "/sys/fs/bpf/xdpdirector"), Level.NOTE),
        (OSError(5, "Input/output error"), Level.WARNING),
        (DataplaneError("the map is gone"), Level.WARNING),
    ],
    ids=["not allowed", "broken disk", "our own error"],
)
def test_a_family_that_fails_does_not_keep_the_others_from_looking(problem: Exception, level: Level) -> None:
    def fails(subject: Subject) -> Any:
        yield Finding(Level.OK, "first", "seen")
        raise problem

    def works(subject: Subject) -> Any:
        yield Finding(Level.OK, "last", "seen")

    findings = examine(FakeHost().subject, {"one": fails, "two": works})

    assert [(each.topic, each.level) for each in findings] == [
        ("one", Level.OK),
        ("one", level),
        ("two", Level.OK),
    ]


def test_without_a_daemon_and_a_configuration_it_says_what_it_could_not_see() -> None:
    host = FakeHost()
    dead(host)
    without_configuration(host)

    texts = [each.text for each in host.complaints("network", "interfaces")]

    assert texts == ["the network was not looked at: nobody says which backends there are"]


def test_the_daemons_answers_tell_what_the_configuration_does_not() -> None:
    host = FakeHost()
    without_configuration(host)

    assert host.subject.interfaces == ("eth0",)
    assert host.subject.program_ids == {42}
    assert host.subject.documents == HEALTHY


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(gateway(accept_local="1"), id="gateway that takes own addresses"),
        pytest.param(gateway(accept_local="1", rp_filter="2"), id="gateway with loose rp_filter"),
        pytest.param(card(kind="veth", peer=Peer("p0", True, False)), id="veth with a ready peer"),
        pytest.param(two_arms(kind="veth", peer=Peer("p1", False, False)), id="generic mode without offload"),
    ],
)
def test_what_packets_survive_is_no_trouble(sound: Break) -> None:
    host = FakeHost()
    sound(host)

    found = host.findings()

    assert not [
        each for each in found if "dropped at" in each.text or "stall" in each.text or "veth" in each.text
    ]
