# SPDX-License-Identifier: Apache-2.0
"""The packages' life on a machine, in order: installed, configured, started, hung, upgraded under traffic,
rebooted, purged. Every step looks whether the machine is as it should be.

Knows the machine by its commands only, as an administrator does.
"""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from dev.package.account import Account, account
from dev.package.recipe import DIRECTOR_CARD
from dev.vm.guest import Guest
from xdpdirector.errors import TimedOutError
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.topology import VIP4
from xdpdirector.lab.waiting import wait_until

HERE = Path(__file__).parent
SOCKET = "/run/xdpdirector/default/api.sock"
CONFINED = "/usr/local/bin/confined"
BACKEND_VIP = "198.51.100.80"
PATIENCE = {
    "/etc/systemd/system/xdpdirector.service.d": "[Service]\\nWatchdogSec=60\\nTimeoutStartSec=900\\n",
    "/etc/systemd/system/xdpdirector-load.service.d": "[Service]\\nTimeoutStartSec=infinity\\n",
}
"""Drop-ins of units. An emulated machine on a busy one may stand still for half a minute, and compile the packet
program for half an hour."""
EXPOSURE = 2.5
# Seconds, for a machine that is busy with other things.
INSTALLING, STARTING, SENDING = 7200.0, 7200.0, 9000.0
REQUESTS = 20
NAMES = ("backend1", "backend2")
_LEFT = """
ls -d /etc/xdpdirector /var/lib/xdpdirector /run/xdpdirector /run/xdpdirector-backend /usr/lib/xdpdirector \
    /sys/fs/bpf/xdpdirector 2>/dev/null
find /etc/systemd /lib/systemd /var/lib/systemd /usr/lib/sysctl.d -name '*xdpdirector*'
getent passwd xdpdirector; getent group xdpdirector
ip -brief address | grep -o -e '192[.]0[.]2[.]10/32' -e '198[.]51[.]100[.]80/32'
ip -details link show eth1 | grep -o 'prog/xdp.*'
ip -brief link | grep -o '^xc[^ ]*'
dpkg-query -W -f '${Package} ${Status}\\n' 'xdpdirector*' 2>/dev/null | grep -v not-installed
sysctl net.ipv4.conf.all.arp_ignore net.ipv4.conf.all.arp_announce | grep -v '= 0'
true
"""


class Trial:
    """Packages are named by their files in the guest; `note` tells what was seen."""

    def __init__(self, guest: Guest, note: Callable[[str], None]) -> None:
        self._guest, self._note = guest, note

    def install(self, packages: str) -> None:
        """Nothing starts that nobody configured."""
        for name in ("guest_agent.py", "stage.sh"):
            self._write(f"/root/{name}", name)
        self._sh(f"dpkg -i {packages}", INSTALLING)
        self._expect("systemctl is-active xdpdirector || true", "inactive")
        self._expect("systemctl is-enabled xdpdirector || true", "disabled")
        self._expect("systemctl is-active xdpdirector-backend", "active")
        self._expect("systemctl --failed --no-legend | wc -l", "0")

    def become_backend(self) -> None:
        self._sh(f"echo {BACKEND_VIP} >/etc/xdpdirector/backend.conf && systemctl reload xdpdirector-backend")
        self._sh("xdpdirector-backend status")

    def start(self) -> None:
        self._write("/etc/xdpdirector/director.yaml", "director.yaml")
        self._write(CONFINED, "confined.sh")
        self._sh(f"chmod 755 {CONFINED}")
        for directory, text in PATIENCE.items():
            self._sh(f"mkdir -p {directory} && printf '{text}' >{directory}/patience.conf")
        self._sh("systemctl daemon-reload")
        self._stage()
        self._sh("systemctl enable xdpdirector && systemctl start --no-block xdpdirector")
        self._serves()
        self._note(f"systemctl says: {self._property('StatusText')}")
        self._note(f"loading took {self._load_seconds():.0f} s")
        memory = int(self._property("MemoryCurrent")) / 1e6
        self._note(f"memory of the daemon's unit: {memory:.0f} MB")

    def check_by_program(self) -> None:
        """An `exec` check runs under systemd's filters, and is confined there. LabError with its reason."""
        service = self._api("/v1/services/talk")
        found = {
            "up" if vip["operational"] == "up" else f"{vip['operational']}: {vip['reason']}"
            for backend in service.get("backends", [])
            for vip in backend["vips"]
        }
        if found != {"up"}:
            raise LabError(f"the backends that a program checks are not up: {', '.join(sorted(found))}")

    def judge(self) -> None:
        """systemd-analyze's verdict on the daemon that runs. LabError above 2.5."""
        said = self._sh("systemd-analyze security --no-pager xdpdirector")
        found = re.search(r"exposure level for xdpdirector.service: ([0-9.]+)", said)
        if not found or float(found[1]) > EXPOSURE:
            raise LabError(f"the daemon's exposure is not {EXPOSURE} or less: {said}")
        self._note(f"systemd-analyze security: {found[1]}")

    def reload(self) -> None:
        """systemd hears when it begins, and when it is done."""
        self._sh("systemctl reload xdpdirector")
        self._expect("systemctl is-active xdpdirector", "active")

    def hang(self) -> None:
        """A loop that does not turn: the watchdog ends the process, and another one begins."""
        before = self._property("MainPID")
        self._sh(f"kill -STOP {before}")
        self._wait(
            lambda: self._property("MainPID") not in (before, "0"),
            "the watchdog replaces what hangs",
            STARTING,
        )
        self._serves()
        self._expect("systemctl show -P NRestarts xdpdirector", "1")

    def upgrade(self, packages: str) -> None:
        """Under 1,000 datagrams a second and two conversations. LabError when one is lost or moves."""
        program = self._program()
        self._sh(
            "systemd-run --quiet --unit=traffic --property=StandardOutput=file:/run/traffic.json "
            f"ip netns exec client python3 /root/guest_agent.py send {SENDING:g}"
        )
        said = self._sh(f"sleep 3; dpkg -i {packages}; sleep 3", INSTALLING)
        self._serves()
        self._sh("systemctl stop traffic", STARTING)
        self._sh(f"systemctl stop {' '.join(NAMES)}", STARTING)
        if self._program() == program:
            raise LabError(f"the upgrade left the old program: {said}")
        counted = account(self._json("traffic"), [self._json(name) for name in NAMES])
        self._note(str(counted))
        self._check(counted)

    def _check(self, counted: Account) -> None:
        if counted.problems:
            raise LabError(f"the upgrade was not without a loss: {'; '.join(counted.problems)}")

    def reboot(self) -> None:
        """All is there again: the director with its VIP, the backend's VIP with ARP's behaviour."""
        self._guest.reboot()
        self._sh("xdpdirector-backend status")
        self._stage()
        self._serves()
        self._note(f"after the reboot, systemctl says: {self._property('StatusText')}")

    def purge(self) -> None:
        """Nothing stays. LabError names what does."""
        self._sh(
            f"rm -r {' '.join(PATIENCE)} {CONFINED}; dpkg --purge xdpdirector xdpdirector-backend", INSTALLING
        )
        left = self._sh(_LEFT).strip()
        if left:
            raise LabError(f"the purge left: {left}")

    # Looking

    def _serves(self) -> None:
        """The daemon is ready, its checks have found both backends well by the VIP, and both answer."""
        try:
            self._wait(self._is_well, "the director is ready and its backends are up", STARTING)
        except TimedOutError as error:
            log = self._sh("journalctl --no-pager -b -u 'xdpdirector*' -n 30 || true")
            raise LabError(f"{error.detail}\n{log}") from error
        said = self._sh(
            f"ip netns exec client curl -sS -m 60 -H 'Connection: close' http://{VIP4}/[1-{REQUESTS}]"
        )
        if set(said.split()) != set(NAMES) or len(said.split()) != REQUESTS:
            raise LabError(f"not both backends answered all requests: {said.split()}")

    def _is_well(self) -> bool:
        if self._property("ActiveState") != "active":
            return False
        readiness = self._api("/readyz")
        services = self._api("/v1/services").get("items", [])
        states = {each["operational"] for one in services for each in one["backends"]}
        return readiness.get("ready") is True and not readiness["warnings"] and states == {"up"}

    def _api(self, path: str) -> dict[str, Any]:
        try:
            answer = json.loads(
                self._sh(f"curl -s --max-time 20 --unix-socket {SOCKET} http://director{path}")
            )
        except (LabError, ValueError):  # it is not there yet, or no longer
            return {}
        return dict(answer)

    def _program(self) -> str:
        """The id of the program on the director's card."""
        found = re.search(r"prog/xdp id (\d+)", self._sh(f"ip -details link show {DIRECTOR_CARD}"))
        if not found:
            raise LabError(f"{DIRECTOR_CARD} carries no program")
        return found[1]

    def _load_seconds(self) -> float:
        """How long the loader compiled, loaded and attached, by the guest's clock."""
        said = self._sh(
            "systemctl show xdpdirector-load -P InactiveExitTimestampMonotonic -P ActiveEnterTimestampMonotonic"
        )
        began, done = (int(line) for line in said.split())
        return (done - began) / 1e6

    def _property(self, name: str) -> str:
        return self._sh(f"systemctl show -P {name} xdpdirector").strip()

    def _json(self, name: str) -> dict[str, Any]:
        return dict(json.loads(self._sh(f"cat /run/{name}.json")))

    # Doing

    def _stage(self) -> None:
        self._sh("sh /root/stage.sh")

    def _expect(self, command: str, wanted: str) -> None:
        said = self._sh(command).strip()
        if said != wanted:
            raise LabError(f"'{command}' says '{said}', not '{wanted}'")

    def _write(self, path: str, name: str) -> None:
        self._guest.run("sh", "-c", f"cat >{path}", data=(HERE / name).read_bytes())

    def _sh(self, command: str, timeout: float = 120.0) -> str:
        return self._guest.run("sh", "-c", command, timeout=timeout)

    def _wait(self, condition: Callable[[], bool], what: str, timeout: float) -> None:
        wait_until(condition, what, timeout, interval=2.0)


def successor(package: Path, work: Path, version: str) -> Path:
    """The same package as a later version, with another text of the packet program, so that it is replaced."""
    tree = work / "successor"
    built = work / f"xdpdirector_{version}_amd64.deb"
    _dpkg("--raw-extract", str(package), str(tree))
    control = tree / "DEBIAN" / "control"
    control.write_text(
        re.sub(r"^Version: .*$", f"Version: {version}", control.read_text(), flags=re.MULTILINE)
    )
    (tree / "DEBIAN" / "md5sums").unlink()
    (program,) = tree.glob("usr/lib/xdpdirector/**/director.c")
    program.write_text(f"{program.read_text()}/* {version} */\n")
    _dpkg("--root-owner-group", "-Zgzip", "-z1", "--build", str(tree), str(built))  # unpacked in emulation
    return built


def _dpkg(*arguments: str) -> None:
    done = subprocess.run(["dpkg-deb", *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise LabError(f"dpkg-deb {arguments[0]}: {done.stderr.strip()}")
