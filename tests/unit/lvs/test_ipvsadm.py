# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector ipvsadm`: what its commands become here, what it refuses, what it remembers."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.api_server import ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.cli import main as command_line
from xdpdirector.cli.ipvsadm import Order, plain_order
from xdpdirector.client import Client
from xdpdirector.lvs import ipvsadm, observed
from xdpdirector.lvs.listing import sync_daemon
from xdpdirector.lvs.own import own_address
from xdpdirector.lvs.virtual import Counters
from xdpdirector.model.lvs import LvsSpec, LvsSyncSpec
from xdpdirector.net.mtu import mtu_of
from xdpdirector.sync.ipvs.status import LvsIncoming, LvsOutgoing, LvsSyncView
from xdpdirector.sync.status import FleetView

VIP, WEB1, WEB2 = "192.0.2.10", "192.0.2.21", "192.0.2.22"
VIP6, WEB1_6 = "2001:db8::10", "2001:db8::21"
SHOP = [f"{VIP}:80/tcp", f"{VIP}:443/tcp"]
HEAD = (
    "Prot LocalAddress:Port Scheduler Flags\n"
    "  -> RemoteAddress:Port           Forward Weight ActiveConn InActConn\n"
)


class Done(NamedTuple):
    status: int
    out: str
    err: str


Run = Callable[..., Done]


@pytest.fixture
def director() -> FakeDirector:
    director = FakeDirector()
    director.lvs = LvsSpec(fwmarks={"1": SHOP, "2": [f"[{VIP6}]:80/tcp"]})
    return director


@pytest.fixture
def server(director: FakeDirector, tmp_path: Path) -> Iterator[ApiServer]:
    with ApiServer(director, tmp_path / "api.sock") as server:
        yield server


@pytest.fixture
def run(server: ApiServer, tmp_path: Path) -> Run:
    def run(line: str, source: str = "") -> Done:
        out, err = io.StringIO(), io.StringIO()
        memory = tmp_path / "state" / "memory.json"
        status = ipvsadm.main(
            line.split(), server.client, memory, output=out, errors=err, source=io.StringIO(source)
        )
        return Done(status, out.getvalue(), err.getvalue())

    return run


@pytest.fixture
def services(server: ApiServer) -> Callable[[], dict[str, Any]]:
    """What is wanted, as the configuration file has it, without defaults."""

    def services() -> dict[str, Any]:
        found: dict[str, Any] = server.client.get("/v1/config")["services"]
        return found

    return services


@pytest.mark.parametrize(
    ("line", "name", "fields"),
    [
        (f"-A -t {VIP}:80", "tcp-192.0.2.10-80", {"listeners": [f"{VIP}:80/tcp"], "scheduler": "wlc"}),
        (f"-A -u {VIP}:53 -s rr -o", "udp-192.0.2.10-53", {"scheduler": "rr", "one_packet": True}),
        (
            f"-A -t {VIP}:0 -p 600 -M 255.255.255.0",
            "tcp-192.0.2.10-any",
            {
                "listeners": [f"{VIP}:*/tcp"],
                "persistence": {"timeout": "600s", "prefix": 24, "prefix6": 128, "on_drain": "keep"},
            },
        ),
        (
            f"-A -t {VIP}:21 -p",
            "tcp-192.0.2.10-21",
            {"listeners": [f"{VIP}:21/tcp", f"{VIP}:20/tcp", f"{VIP}:1024-65535/tcp"]},
        ),
        (f"-A -t {VIP}:21", "tcp-192.0.2.10-21", {"listeners": [f"{VIP}:21/tcp"]}),
        (
            f"-A -t [{VIP6}]:80 -p -M 64",
            "tcp-2001-db8--10-80",
            {"persistence": {"timeout": "360s", "prefix": 32, "prefix6": 64, "on_drain": "keep"}},
        ),
        ("-A -f 1 -s sh", "fwm-1", {"listeners": sorted(SHOP), "scheduler": "sh", "hash": "address"}),
        ("-A -f 2 -6", "fwm6-2", {"listeners": [f"[{VIP6}]:80/tcp"]}),
        (f"-A -t {VIP}:80 -s mh", "tcp-192.0.2.10-80", {"scheduler": "mh", "hash": "address"}),
        (f"-A -t {VIP}:80 -s mh -b mh-port", "tcp-192.0.2.10-80", {"scheduler": "mh", "hash": "flow"}),
        (f"-A --sctp-service {VIP}:0 -p", "sctp-192.0.2.10-any", {"listeners": [f"{VIP}:*/sctp"]}),
        (f"-A --sctp-service {VIP}:3868", "sctp-192.0.2.10-3868", {"listeners": [f"{VIP}:3868/sctp"]}),
    ],
)
def test_a_virtual_service_becomes_a_service(
    line: str, name: str, fields: dict[str, Any], run: Run, services: Callable[[], dict[str, Any]]
) -> None:
    assert run(line) == (0, "", "")

    made = services()[name]
    assert {key: sorted(made[key]) if key == "listeners" else made[key] for key in fields} == {
        key: sorted(value) if key == "listeners" else value for key, value in fields.items()
    }


def test_a_server_becomes_a_backend(run: Run, services: Callable[[], dict[str, Any]]) -> None:
    run(f"-A -t {VIP}:80")

    assert run(f"-a -t {VIP}:80 -r {WEB1}:8080 -w 5 -x 100 -y 50") == (0, "", "")

    made = services()["tcp-192.0.2.10-80"]["backends"]
    assert made.keys() == {WEB1}
    wanted = {"address": WEB1, "weight": 5, "max_connections": 100, "resume_connections": 50}
    assert {key: made[WEB1][key] for key in wanted} == wanted


def test_edit_takes_back_what_is_not_said(run: Run, services: Callable[[], dict[str, Any]]) -> None:
    run(f"-A -t {VIP}:80 -s rr -p -b flag-1")
    run(f"-a -t {VIP}:80 -r {WEB1} -w 5 -x 100 -y 50")

    assert run(f"-E -t {VIP}:80").status == run(f"-e -t {VIP}:80 -r {WEB1}").status == 0

    made = services()["tcp-192.0.2.10-80"]
    assert (made["scheduler"], made.get("persistence"), made.get("labels", {})) == ("wlc", None, {})
    backend = made["backends"][WEB1]
    assert (backend["weight"], backend.get("max_connections")) == (1, None)


def test_persistence_of_ftp_takes_its_data_ports_along(
    run: Run, services: Callable[[], dict[str, Any]]
) -> None:
    run(f"-A -t {VIP}:21")

    run(f"-E -t {VIP}:21 -p")
    assert len(services()["tcp-192.0.2.10-21"]["listeners"]) == 3
    assert run("-L -n").out.endswith(f"{HEAD}TCP  {VIP}:21 wlc persistent 360\n")

    run(f"-E -t {VIP}:21")
    assert services()["tcp-192.0.2.10-21"]["listeners"] == [f"{VIP}:21/tcp"]


def test_ipv6_is_not_cut_off_at_the_column(run: Run) -> None:
    vip, server = "2001:db8:1234:5678:9abc:def0:1234:5678", "2001:db8:1234:5678:9abc:def0:1234:9999"
    run(f"-A -t [{vip}]:80 -s rr -p 60 -M 64")
    run(f"-a -t [{vip}]:80 -r {server}")

    assert run("-L -n").out.endswith(
        f"{HEAD}TCP  [{vip}]:80 rr persistent 60 mask 64\n"
        f"  -> [{server}]:80 Route   1      0          0         \n"
    )
    assert run("-S -n").out == (
        f"-A -t [{vip}]:80 -s rr -p 60 -M 64\n-a -t [{vip}]:80 -r [{server}]:80 -g -w 1\n"
    )


def test_what_was_saved_is_restored(run: Run, services: Callable[[], dict[str, Any]]) -> None:
    lines = (
        f"-A -t {VIP}:80 -s wrr -p 600 -M 255.255.255.0",
        f"-a -t {VIP}:80 -r {WEB1} -w 3",
        f"-a -t {VIP}:80 -r {WEB2}",
        f"-A -u {VIP}:53 -s mh -o -b mh-fallback,mh-port",
        "-A -f 2 -6 -s sed",
        f"-a -f 2 -6 -r [{WEB1_6}]:80",
    )
    for line in lines:
        assert run(line).status == 0
    saved, before = run("-S -n").out, services()

    run("-C")
    assert services() == {}
    assert run("-R", saved) == (0, "", "")

    assert services() == before
    assert run("--save --numeric").out == saved


def test_a_line_at_fault_is_told_and_the_others_hold(
    run: Run, services: Callable[[], dict[str, Any]]
) -> None:
    lines = (
        f"ipvsadm -A -t {VIP}:80\n\n-A -t {VIP}:80\n-a -t {VIP}:80 -r {WEB1} -m\n-a -t {VIP}:80 -r {WEB2}\n"
    )

    done = run("-R", lines)

    assert done.status == 2  # a line that can mean nothing here is never passed over in silence
    assert done.err.splitlines()[0] == "Service already exists"
    assert done.err.splitlines()[1].startswith("ipvsadm: masquerading (NAT) is not what this director does")
    assert services()["tcp-192.0.2.10-80"]["backends"].keys() == {WEB2}


def test_what_the_daemon_refuses_of_a_file_is_told_by_line(
    run: Run, services: Callable[[], dict[str, Any]]
) -> None:
    lines = f"-A -t {VIP}:80 -s mh\n-a -t {VIP}:80 -r {WEB1} -x 5\n-a -t {VIP}:80 -r {WEB2}\n"

    done = run("-R", lines)

    assert "max_connections" in done.err
    assert services()["tcp-192.0.2.10-80"]["backends"].keys() == {WEB2}


def test_a_usage_error_ends_the_file(run: Run, services: Callable[[], dict[str, Any]]) -> None:
    done = run("-R", f"-A -t {VIP}:80\n-A -t 80\n-A -t {VIP}:81\n")

    assert done == (2, "", "illegal virtual server address[:port] specified\n")
    assert services().keys() == {"tcp-192.0.2.10-80"}


def test_tunnels_are_listed_and_written_as_ipvsadm_does(
    run: Run, services: Callable[[], dict[str, Any]]
) -> None:
    run(f"-A -t {VIP}:80 -s rr")
    run(f"-a -t {VIP}:80 -r {WEB1} -i")
    run(f"-a -t {VIP}:80 -r {WEB1_6} -i --tun-type gue --tun-port 6080 --tun-nocsum")
    run(f"-a -t {VIP}:80 -r {WEB2} -g")

    backends = services()["tcp-192.0.2.10-80"]["backends"]
    assert {address.get("forward") for address in backends.values()} == {"ipip", "gue", None}
    saved, shown = run("-S -n").out, run("-L -n --tun-info").out
    assert f"-a -t {VIP}:80 -r {WEB1}:80 -i -w 1" in saved
    assert f"-r [{WEB1_6}]:80 -i --tun-type gue --tun-port 6080 --tun-nocsum -w 1" in saved
    assert f"-r {WEB2}:80 -g -w 1" in saved
    assert "Tunnel  ipip" in shown
    assert "Tunnel  gue:6080:nocsum" in shown
    assert "Route   n/a" in shown

    run(f"-e -t {VIP}:80 -r {WEB1} -g")
    assert "forward" not in services()["tcp-192.0.2.10-80"]["backends"][WEB1]


@pytest.mark.parametrize(
    ("line", "status", "said"),
    [
        (f"-a -t {VIP}:80 -r {WEB1} -m", 2, "masquerading (NAT) is not what this director does"),
        (f"-a -t {VIP}:80 -r {WEB1} -i --tun-type gue --tun-port 9886", 2, "GUE goes to port 6080"),
        (f"-e -t {VIP}:80 -r {WEB1} -i --tun-type gre", 2, "and no GRE"),
        (f"-e -t {VIP}:80 -r {WEB1} -i --tun-type gue --tun-port 6080 --tun-csum", 2, "use --tun-nocsum"),
        ("--start-daemon master", 2, "set it there, and restart xdpdirector"),
        ("--stop-daemon backup", 2, "says in lvs.sync, and not by a command"),
        (f"-A -t {VIP}:81 -p -M 255.0.255.0", 2, "the netmask 255.0.255.0 is not a prefix"),
        (f"-A -u {VIP}:81 -p -o", 2, "one-packet scheduling remembers nothing"),
        ("-A -f 9", 2, "firewall mark 9 stands for no IPv4 listener here"),
        ("-A -f 1 -6", 2, "firewall mark 1 stands for no IPv6 listener here"),
        (f"-A -t {VIP}:81 -s fastest", 255, "Scheduler or persistence engine not found"),
        (f"-A -u {VIP}:81 -p --pe sip", 255, "persistence is by address here"),
        (f"-a -t {VIP}:80 -r {WEB1} -w 65536", 255, "weight"),
        ("--set 0 0 1000000", 255, "24 hours"),
    ],
)
def test_differences_are_refused_and_nothing_is_done(
    line: str, status: int, said: str, run: Run, services: Callable[[], dict[str, Any]]
) -> None:
    run(f"-A -t {VIP}:80")
    before = services()

    done = run(line)

    assert (done.status, done.out) == (status, "")
    assert said in done.err
    assert services() == before


def test_connections_of_sctp_have_its_states() -> None:
    backends = [{"name": "hss1", "address": WEB1}]
    timeouts = {"syn": "60s", "tcp": "900s", "tcpfin": "120s", "udp": "300s"}
    service = {"name": "hss", "listeners": [f"{VIP}:3868/sctp"], "backends": backends, "timeouts": timeouts}
    item = {"service": "hss", "backend": "hss1", "client": "198.51.100.7", "client_port": 40000, "vip": VIP,
            "port": 3868, "protocol": "sctp", "idle": 0.0}  # fmt: skip
    items = [item | {"state": state} for state in ("syn", "established", "fin", "closed")]

    found = observed.connections(items, {"hss": service})

    assert [(each.state, each.expires) for each in found] == [
        ("INIT1", 60), ("ESTABLISHED", 900), ("SHUTDOWN_RECEIVED", 120), ("CLOSED", 120),
    ]  # fmt: skip


def synced(director: FakeDirector, spec: LvsSyncSpec, **parts: Any) -> None:
    director.lvs = LvsSpec(sync=spec)
    view = LvsSyncView(
        role=spec.role, interface=spec.interface, syncid=spec.syncid, group=str(spec.group), **parts
    )
    director.fleet = FleetView(lvs=view)


def test_the_sync_daemon(director: FakeDirector, run: Run) -> None:
    assert run("-L --daemon") == (0, "", "")

    synced(director, LvsSyncSpec(role="master", interface="lo", syncid=7), outgoing=LvsOutgoing())
    assert run("-L --daemon") == (
        0,
        "master sync daemon (mcast=lo, syncid=7, maxlen=1472, group=224.0.0.81, port=8848, ttl=1)\n",
        "",
    )

    group = ip_address("ff02::81")
    spec = LvsSyncSpec(role="both", interface="none0", group=group, port=8849)
    synced(director, spec, outgoing=LvsOutgoing(), incoming=LvsIncoming())
    assert run("-L --daemon -n").out.splitlines() == [
        f"{state} sync daemon (mcast=none0, syncid=0, maxlen=1452, group=ff02::81, port=8849, ttl=1)"
        for state in ("master", "backup")
    ]


def test_a_sync_daemon_that_does_not_run(director: FakeDirector, run: Run) -> None:
    spec = LvsSyncSpec(role="backup", interface="none0")
    synced(director, spec, incoming=LvsIncoming(why="there is no interface none0"))

    assert run("-L --daemon") == (
        0,
        "",
        "ipvsadm: the backup of lvs.sync does not run: there is no interface none0\n",
    )


def test_the_length_that_a_backup_takes_is_that_of_its_interface() -> None:
    spec = LvsSyncSpec(role="backup", interface="eth0")

    assert [f"maxlen={each}," in sync_daemon("backup", spec, mtu) for mtu, each in
            ((0, 1472), (1400, 1472), (9000, 8972), (65536, 65507))] == [True] * 4  # fmt: skip
    assert mtu_of("lo") >= 1500
    assert mtu_of("none0") == 0


def test_services_of_the_file_are_shown_listener_by_listener(server: ApiServer, run: Run) -> None:
    shop = {"name": "shop", "listeners": [f"{VIP}:80/tcp", f"{VIP}:8000-8099/tcp", f"{VIP}:443/tcp"]}
    server.client.post("/v1/services", {**shop, "backends": {"web1": {"address": WEB1}}})

    done = run("-L -n")

    row = f"{WEB1}:80                Route   1      0          0         \n"
    assert done.out.endswith(
        f"TCP  {VIP}:80 wlc\n  -> {row}TCP  {VIP}:443 wlc\n  -> {row.replace(':80 ', ':443')}"
    )
    assert f"{VIP}:8000-8099/tcp of the service 'shop'" in done.err
    for line in (f"-E -t {VIP}:80", f"-D -t {VIP}:443", f"-a -t {VIP}:80 -r {WEB2}"):
        refused = run(line)
        assert (refused.status, "one of several listeners of the service 'shop'" in refused.err) == (
            255,
            True,
        )


def test_a_service_that_is_a_mark_is_shown_as_one(server: ApiServer, run: Run) -> None:
    body = {"name": "shop", "listeners": SHOP, "backends": {"web1": {"address": WEB1, "weight": 3}}}
    server.client.post("/v1/services", body)

    assert run("-S -n").out == f"-A -f 1 -s wlc\n-a -f 1 -r {WEB1}:0 -g -w 3\n"
    assert run(f"-e -f 1 -r {WEB1} -w 7").status == 0
    assert server.client.get("/v1/services/shop")["backends"][0]["weight"] == 7


def test_a_mark_remembers_the_port_that_was_said(run: Run) -> None:
    run("-A -f 1")

    assert run(f"-a -f 1 -r {WEB1}:80").status == 0
    assert run("-S -n").out.splitlines()[1] == f"-a -f 1 -r {WEB1}:80 -g -w 1"
    assert run(f"-d -f 1 -r {WEB1}") == (255, "", "No such destination\n")
    assert "a server is in it once, whatever its port" in run(f"-a -f 1 -r {WEB1}:81").err


def test_who_gets_nothing_has_weight_0(server: ApiServer, director: FakeDirector, run: Run) -> None:
    backends = {
        name: {"address": f"192.0.2.{20 + int(name[-1])}"} for name in ("web1", "web2", "web3", "spare4")
    }
    server.client.post(
        "/v1/services",
        {"name": "web", "listeners": [f"{VIP}:80/tcp"], "fallback": "spare4", "backends": backends},
    )
    server.client.post("/v1/services/web/backends/web1/drain")
    director.down["web", "web2"] = "connection refused"
    director.busy["web", "web1"] = 7

    rows = run("-L -n").out.splitlines()[4:]

    assert [row.split()[1:] for row in rows] == [
        ["192.0.2.21:80", "Route", "0", "7", "0"],
        ["192.0.2.22:80", "Route", "0", "0", "0"],
        ["192.0.2.23:80", "Route", "1", "0", "0"],
        ["192.0.2.24:80", "Route", "0", "0", "0"],
    ]


def test_zero_is_an_offset_of_who_zeroed(server: ApiServer, run: Run, tmp_path: Path) -> None:
    run(f"-A -t {VIP}:80")
    run(f"-a -t {VIP}:80 -r {WEB1}")
    counted = run("-L -n --stats").out.splitlines()[-1].split()[2:]

    assert run(f"-Z -t {VIP}:80") == (0, "", "")

    assert counted != ["0"] * 5
    assert run("-L -n --stats").out.splitlines()[-1].split()[2:] == ["0"] * 5
    assert server.client.get("/v1/services")["items"][0]["traffic"]["packets"] > 0
    output = io.StringIO()
    ipvsadm.main(["-L", "-n", "--stats"], server.client, tmp_path / "other.json", output=output)
    assert output.getvalue().splitlines()[-1].split()[2:] == counted


def test_a_server_made_anew_counts_from_its_beginning(run: Run) -> None:
    run(f"-A -t {VIP}:80")
    run(f"-a -t {VIP}:80 -r {WEB1}")
    counted = run("-L -n --stats").out
    run("-Z")

    run(f"-d -t {VIP}:80 -r {WEB1}")
    run(f"-a -t {VIP}:80 -r {WEB1}")

    assert run("-L -n --stats").out.splitlines()[-1] == counted.splitlines()[-1]


def test_counters_below_the_offset_were_counted_anew() -> None:
    assert Counters(5, 50, 500).less(Counters(2, 20, 200)) == Counters(3, 30, 300)
    assert Counters(1, 10, 100).less(Counters(2, 20, 200)) == Counters(1, 10, 100)


def test_timeouts_hold_for_what_is_and_what_comes(run: Run, services: Callable[[], dict[str, Any]]) -> None:
    run(f"-A -t {VIP}:80")
    assert run("-L --timeout").out == "Timeout (tcp tcpfin udp): 900 120 300\n"

    assert run("--set 0 60 30").status == 0
    run(f"-A -t {VIP}:81")

    assert run("-L --timeout").out == "Timeout (tcp tcpfin udp): 900 60 30\n"
    wanted = {"tcp": "900s", "tcpfin": "60s", "udp": "30s", "syn": "60s"}
    assert [each["timeouts"] for each in services().values()] == [wanted] * 2


def test_large_numbers_are_shortened_unless_exact() -> None:
    from xdpdirector.lvs.listing import Format, _large

    shown = [_large(value, Format()) for value in (99_999_999, 100_000_000, 10**9, 10**11, 10**14)]
    assert shown == [" 99999999", "  100000K", "    1000M", "     100G", "     100T"]
    assert _large(123_456_789, Format(exact=True)) == " 123456789"


def test_connections(server: ApiServer, run: Run) -> None:
    server.client.post(
        "/v1/services",
        {"name": "web", "listeners": [f"{VIP}:80/tcp"], "backends": {"web1": {"address": WEB1}}},
    )

    lines = run("-L -c -n").out.splitlines()

    assert lines[:2] == [
        "IPVS connection entries",
        "pro expire state       source             virtual            destination",
    ]
    for line in lines[2:]:
        assert line.startswith("TCP ")
        assert line.endswith(f"{VIP}:80       {WEB1}:80")


def test_loopback_means_this_machine(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    from xdpdirector.lvs import ipvsadm as module

    monkeypatch.setattr(module, "own_address", lambda interfaces, version, others: _own(version))
    run(f"-A -t {VIP}:80")

    assert run(f"-a -t {VIP}:80 -r 127.0.0.1").status == 0
    assert run("-S -n").out.splitlines()[1] == f"-a -t {VIP}:80 -r 127.0.0.1:80 -g -w 1"
    assert run(f"-e -t {VIP}:80 -r 127.0.0.1 -w 0").status == 0
    assert run(f"-d -t {VIP}:80 -r 127.0.0.1").status == 0


def _own(version: int) -> object:
    from ipaddress import ip_address

    return ip_address("192.0.2.1") if version == 4 else None


def test_loopback_has_an_own_address() -> None:
    assert str(own_address(["lo"], 4, frozenset())) == "127.0.0.1"
    assert own_address(["no-such"], 4, frozenset()) is None
    assert own_address(["no-such"], 6, frozenset()) is None


def test_a_daemon_that_does_not_answer(tmp_path: Path) -> None:
    errors = io.StringIO()

    status = ipvsadm.main(["-L"], Client(tmp_path / "none"), tmp_path / "memory", errors=errors)

    assert (status, errors.getvalue().partition(":")[0]) == (2, "Can't initialize ipvs")


@pytest.mark.parametrize(
    ("arguments", "order"),
    [
        (["ipvsadm", "-L", "-n"], Order("default", None, ["-L", "-n"])),
        (["-i", "edge", "ipvsadm"], Order("edge", None, [])),
        (["--instance=edge", "--socket", "/s", "ipvsadm", "-i"], Order("edge", Path("/s"), ["-i"])),
        (["status"], None),
        (["-h", "ipvsadm"], None),
        (["--socket"], None),
        ([], None),
    ],
)
def test_its_command_line_is_found_at_once(arguments: list[str], order: Order | None) -> None:
    assert plain_order(arguments, {}) == order


def test_from_the_command_line(server: ApiServer, capsys: pytest.CaptureFixture[str]) -> None:
    assert command_line(["--socket", str(server.path), "ipvsadm", "-A", "-t", f"{VIP}:80"]) == 0
    assert command_line(["--socket", str(server.path), "ipvsadm", "-S", "-n"]) == 0
    assert capsys.readouterr().out == f"-A -t {VIP}:80 -s wlc\n"
    assert command_line(["--socket", str(server.path), "ipvsadm", "-D"]) == 2


def test_the_memory_is_a_file_that_is_whole(run: Run, tmp_path: Path) -> None:
    run("-Z")

    (found,) = (tmp_path / "state").iterdir()
    assert json.loads(found.read_text()) == {"zeroed": {}, "timeouts": {}}
