# SPDX-License-Identifier: Apache-2.0
"""The pair's story on machines: the one that `./lab pair` tells of namespaces, with the director's packages and
systemd, and keepalived as `xdpdirector keepalived-config` configures it (vagrant/provision/director-setup.sh).

The first director's power is cut, and it boots again; it hands over, and is upgraded, under clients that open
connections all the time and downloads that must not break. Its judge is that of `./lab pair`, with times for
emulated machines.
"""

from __future__ import annotations

import json
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from rich.console import Console

from dev.package.lifecycle import successor
from dev.vagrant.remote_clock import CLOCK_SERVER, RemoteClock
from dev.vagrant.service import Service
from dev.vagrant.stage import CLIENT, DIRECTOR, RETURNING, SECOND, VIP4, VIP6, Stage
from xdpdirector.errors import DirectorError, TimedOutError
from xdpdirector.ha.keepalived import PRIORITIES
from xdpdirector.lab.errors import LabError
from xdpdirector.lab.pair.report import Judged, Limits, judged, show
from xdpdirector.lab.pair.story import Refused, Story, refused_of
from xdpdirector.lab.report import BUSY
from xdpdirector.lab.sample import Request
from xdpdirector.lab.waiting import wait_until

RATE, KEPT, DOWNLOADS = 4.0, 2, 16
"""New connections a second, clients that keep theirs, and downloads: what emulated machines have time for."""
ADVERT = 3  # seconds between two advertisements, as the Vagrantfile says for emulated machines
TAKE_OVER = 3 * ADVERT + ADVERT * (256 - PRIORITIES[1]) / 256
"""Seconds, RFC 5798 section 6.1: Master_Down_Interval of the second director."""
LIMITS = Limits(gap=TAKE_OVER + 5, slow=5.0, stall=2 * TAKE_OVER + 5, still=3.0)
"""A packet that was lost just before the VIPs moved is sent again after as long a time (RFC 6298, 5.5)."""
TIMEOUT, LONGEST = 90, 7200  # seconds: of one request, and of all of it
WATCH = 15.0
SETTLING = 600.0  # seconds in which VIPs move and directors exchange all connections
INSTALLING = 1800.0
NEXT = "99.0.0"
OTHER_SIZES = "sizes: {connections: 131072, connections6: 32768}"  # other maps, as a release may have
CLIENTS_PLACE = "/opt/clients"
PYTHON = f"{CLIENTS_PLACE}/usr/lib/xdpdirector/bin/python3 -I"
LOAD, READING = "/var/tmp/requests.jsonl", "/var/tmp/downloads.jsonl"
CLIENTS = {
    "requests": (
        LOAD,
        f"xdpdirector.lab.load {VIP4}:80 {VIP6}:80 --rate {RATE:g} --kept {KEPT} --pause 1 --timeout {TIMEOUT} "
        f"--duration {LONGEST}",
    ),
    "downloads": (READING, f"xdpdirector.lab.pair.downloads {VIP4}:80 {VIP6}:80 --count {DOWNLOADS}"),
}


class TooSlowError(LabError):
    """The machines were too slow to judge what the clients saw."""

    exit_code = TimedOutError.exit_code


def tell(stage: Stage) -> None:
    """LabError when a client suffered, TooSlowError when that may be the machines' fault."""
    with tempfile.TemporaryDirectory() as work, MachinePair(stage) as pair:
        pair.prepare(Path(work))
        with pair.clients():
            story = Story(pair, stage.account.say, WATCH)
            story.baseline()
            story.cycle(upgrades=True)
        report = judged(story.seen, pair.requests(), pair.lines(READING), RATE, LIMITS)
    account(stage, report)


def account(stage: Stage, report: Judged) -> None:
    """Show what was seen of each step; raise what `tell` does."""
    show(report, Console(stderr=True, width=130))
    for row in report.rows:
        stage.account.see(
            f"{row.step}: {row.seconds:.0f} s, {row.requests} requests, {row.failed} failed, new connections "
            f"waited {row.gap:.1f} s, {row.broken} downloads broke, the longest stall {row.longest_stall:.1f} s"
        )
    if report.passed:
        return
    words = "; ".join(report.complaints)
    if report.verdict == BUSY:
        raise TooSlowError(f"these machines were too slow to judge: {words}")
    raise LabError(words)


class MachinePair:
    """The two directors, and the clients. A context manager: the clocks of the machines are asked inside it."""

    def __init__(self, stage: Stage) -> None:
        self._machines, self._stage = stage.machines, stage
        self._clocks: dict[str, RemoteClock] = {}
        self._alive = [DIRECTOR, SECOND]
        self._later = Path()
        self.died: float | None = None

    def __enter__(self) -> MachinePair:
        with ExitStack() as stack:
            for name in (CLIENT, *self._alive):
                stack.callback(self._stop_clock, name)
                self._start_clock(name)
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._clocks):
            self._stop_clock(name)

    def _start_clock(self, name: str) -> None:
        self._clocks[name] = RemoteClock(self._machines.command(name, CLOCK_SERVER)).__enter__()

    def _stop_clock(self, name: str) -> None:
        if clock := self._clocks.pop(name, None):
            clock.__exit__(None, None, None)

    def prepare(self, work: Path) -> None:
        """The clients' programs are the package's; the directors get the file of a later release."""
        package = max(self._stage.packages.glob("xdpdirector_*.deb"), key=lambda path: path.stat().st_mtime)
        self._later = successor(package, work, NEXT)
        self._machines.send(CLIENT, package, "/var/tmp/clients.deb")
        self._machines.run(
            CLIENT,
            f"dpkg-deb --extract /var/tmp/clients.deb {CLIENTS_PLACE}\n"
            f"ln -sf /usr/bin/python3 {CLIENTS_PLACE}/usr/lib/xdpdirector/bin/python3",  # it was relative
            INSTALLING,
        )
        for name in self._alive:
            self._machines.send(name, self._later, "/var/tmp/later.deb")
        self._wait_active(DIRECTOR)
        self._wait_synced()

    @contextmanager
    def clients(self) -> Iterator[None]:
        """They are at work inside the block."""
        for unit, (output, command) in CLIENTS.items():
            self._machines.run(
                CLIENT,
                f"rm -f {output}; systemd-run --quiet --collect --unit={unit} "
                f"--property=StandardOutput=file:{output} {PYTHON} -m {command}",
            )
        try:
            wait_until(self._at_work, "the clients' connections are open", SETTLING, interval=2.0)
            yield
        finally:
            for unit in CLIENTS:
                self._machines.run(CLIENT, f"systemctl stop {unit} || true", TIMEOUT + 120)

    def _at_work(self) -> bool:
        opened = sum(line["what"] == "opened" for line in self.lines(READING))
        return opened >= DOWNLOADS and bool(self.lines(LOAD))

    def requests(self) -> list[Request]:
        return [Request(**line) for line in self.lines(LOAD)]

    def lines(self, output: str) -> list[dict[str, Any]]:
        """What a client has written so far."""
        text = self._machines.run(CLIENT, f"cat {output}", SETTLING)
        return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]

    # What the story asks

    def now(self) -> float:
        return self._clocks[CLIENT].now()

    def lag(self) -> float:
        if DIRECTOR not in self._alive:
            return 0.0
        try:
            peers = Service(self._machines, DIRECTOR).request("GET", "/v1/fleet")["peers"]
        except DirectorError:
            return 0.0
        return max((peer["outgoing"]["lag"] or 0.0 for peer in peers), default=0.0)

    def refused(self) -> Refused:
        found = {}
        for name in self._alive:
            with suppress(DirectorError):
                found[name] = refused_of(
                    Service(self._machines, name).request("GET", "/v1/stats")["verdicts"]
                )
        return found

    def stood_still(self) -> float:
        return max(clock.longest_stall() for clock in self._clocks.values())

    # What is done to them

    def kill(self) -> None:
        self._stop_clock(DIRECTOR)
        self._alive.remove(DIRECTOR)
        self._machines.cut_power(DIRECTOR)
        self.died = self.now()
        self._wait_active(SECOND)

    def come_back(self) -> None:
        """It boots; nobody tells it anything."""
        self._machines.power_on(DIRECTOR, RETURNING)
        self._alive.insert(0, DIRECTOR)
        self._start_clock(DIRECTOR)
        self._wait_active(DIRECTOR)
        self._wait_synced()

    def hand_over(self) -> None:
        self._machines.run(DIRECTOR, "systemctl stop keepalived")
        self._wait_active(SECOND)

    def hand_back(self) -> None:
        self._machines.run(DIRECTOR, "systemctl start keepalived")
        self._wait_active(DIRECTOR)

    def restart(self) -> None:
        self._machines.run(DIRECTOR, "systemctl restart xdpdirector", SETTLING)
        self._wait_active(DIRECTOR)
        self._wait_synced()

    def upgrade(self) -> None:
        """By the package, which compiles the new program while the daemon serves; with room for other numbers of
        connections in the configuration, so that these move into other maps."""
        for name in (SECOND, DIRECTOR):
            before = self._program(name)
            self._machines.run(
                name,
                f"echo {shlex.quote(OTHER_SIZES)} >>/etc/xdpdirector/director.yaml\n"
                "dpkg --install --force-confold /var/tmp/later.deb",
                INSTALLING,
            )
            self._wait_active(DIRECTOR)
            self._wait_synced()
            if self._program(name) == before:
                raise LabError(f"{name} has the program of before its upgrade")

    def _program(self, name: str) -> int:
        shown = Service(self._machines, name).request("GET", "/v1/dataplane")
        return int(shown["carriers"][0]["program_id"])

    def _wait_active(self, name: str) -> None:
        """Until the VIPs stand on this director, and on no other that lives."""
        wanted = {each: each == name for each in self._alive}
        wait_until(
            lambda: {each: self._has_vip(each) for each in self._alive} == wanted,
            f"{name} alone has the VIPs",
            SETTLING,
            interval=0.5,
        )

    def _has_vip(self, name: str) -> bool | None:
        """None: it does not say so in time."""
        with suppress(LabError):
            return self._stage.has_vip(name)
        return None

    def _wait_synced(self) -> None:
        for name in self._alive:
            wait_until(
                lambda name=name: self._is_synced(name),  # type: ignore[misc]
                f"{name} is synced",
                SETTLING,
                interval=1.0,
            )

    def _is_synced(self, name: str) -> bool:
        try:
            peers = Service(self._machines, name).request("GET", "/v1/fleet")["peers"]
        except LabError:  # its daemon is starting
            return False
        return all(peer[way]["state"] == "synced" for peer in peers for way in ("incoming", "outgoing"))
