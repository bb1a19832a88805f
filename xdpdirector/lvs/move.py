# SPDX-License-Identifier: Apache-2.0
"""The guided move from an LVS director: what it has and what is here, how many of its connections have come, if a
VIP may move, and the move itself, with a check behind it and the way back. Runs commands that it is given; knows no
terminal.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from xdpdirector.client import Client
from xdpdirector.errors import DirectorError, UnreachableError
from xdpdirector.lvs import saved
from xdpdirector.lvs.documents import Document
from xdpdirector.lvs.names import SystemNames
from xdpdirector.model.listener import Listener

HEARD_WITHIN = 60.0  # seconds: a master of LVS with traffic says something every two
LOOK_APART = 2.0
Run = Callable[[str], str]
"""Runs a command and gives what it wrote; DirectorError when it fails."""
_SERVER = re.compile(r"\s+->\s+(\S+)\s+\S+\s+\d+\s+(\d+)\s+(\d+)\s*$")


class Steps(NamedTuple):
    """Commands that move a VIP, in their order; `{vip}` stands for it. `release`: LVS leaves it, `take`: this
    director has it; `untake` and `back` are the way back."""

    release: Sequence[str] = ()
    take: Sequence[str] = ()
    untake: Sequence[str] = ()
    back: Sequence[str] = ()


@dataclass
class VipPlan:
    """A VIP of LVS. `services`: those here that have it; `missing`: what of LVS is not here, a sentence each;
    `there` and `here`: active connections."""

    vip: str
    services: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    there: int = 0
    here: int = 0

    def why_not(self, sync: str, share: float) -> str:
        """Why it may not move yet; empty when it may. `sync`: why no connections come."""
        if self.missing:
            return self.missing[0]
        if sync:
            return sync
        if self.here < share * self.there:
            return f"{self.here} of {self.there} connections are here, and {share:.0%} shall be"
        return ""


@dataclass
class Plan:
    """`left`: what LVS has that cannot be here, a sentence each."""

    vips: list[VipPlan]
    left: list[str]
    sync: str


class Move:
    """From one LVS director. `clock` gives seconds, `sleep` waits for so many."""

    def __init__(
        self,
        client: Client,
        run: Run,
        origin: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`origin`: what stands before `ipvsadm` to run it on the LVS director, like `ssh lvs1`."""
        self._client, self._run, self._origin = client, run, origin
        self._clock, self._sleep = clock, sleep
        self._rules = run(f"{origin} ipvsadm -S -n".strip())

    def plan(self) -> Plan:
        """As things are now."""
        services = self._client.pages("/v1/services")["items"]
        marks = self._client.get("/v1/config")["lvs"]["fwmarks"]
        imported = saved.read(self._rules, "ipvsadm -S", SystemNames(), fwmarks=marks)
        counts = active(self._run(f"{self._origin} ipvsadm -L -n".strip()), marks)
        vips: dict[str, VipPlan] = {}
        owners = {text: service for service in services for text in service["listeners"]}
        for wanted in imported.services.values():
            for text in wanted["listeners"]:
                vip = str(Listener.parse(text).address)
                plan = vips.setdefault(vip, VipPlan(vip))
                self._compare(plan, text, wanted, owners.get(text))
                plan.there += counts.get(text, 0)
        for plan in vips.values():
            found = [each for each in services if each["name"] in plan.services]
            plan.here = sum(
                each["connections"]["active"] + each["connections"]["pending"]
                for service in found
                for each in service["backends"]
            )
        left = [f"{each.origin.text}: {each.why}" for each in imported.left]
        return Plan(list(vips.values()), left, self._sync())

    def plan_within(self, seconds: float) -> Plan:
        """The same, and the daemon may take so many seconds until it answers. UnreachableError."""
        end = self._clock() + seconds
        while True:
            try:
                return self.plan()
            except UnreachableError:
                if self._clock() >= end:
                    raise
                self._sleep(LOOK_APART)

    def _compare(self, plan: VipPlan, text: str, wanted: Document, here: Document | None) -> None:
        if here is None:
            plan.missing.append(f"no service here listens on {text}")
            return
        if here["name"] not in plan.services:
            plan.services.append(here["name"])
        addresses = {each["address"]: each for each in here["backends"]}
        for spec in wanted["backends"].values():
            backend = addresses.get(spec["address"])
            if backend is None:
                plan.missing.append(f"service '{here['name']}' has no backend {spec['address']}")
            elif not backend["serving"] and spec.get("weight", 1):
                plan.missing.append(
                    f"backend {here['name']}/{backend['name']} takes no connections: "
                    f"{backend['reason'] or backend['operational']}"
                )

    def _sync(self) -> str:
        lvs = self._client.get("/v1/fleet")["lvs"]
        if not lvs or not lvs["incoming"]:
            return (
                "no connections of LVS come here: set lvs.sync with the role backup, and restart the daemon"
            )
        came = lvs["incoming"]
        if came["why"]:
            return f"no connections of LVS come here: {came['why']}"
        if came["heard"] is None or came["heard"] > HEARD_WITHIN:
            return "LVS says nothing: run ipvsadm --start-daemon master --mcast-interface NAME there"
        return ""

    def wait(self, vips: Sequence[str], share: float, seconds: float, tell: Callable[[Plan], None]) -> Plan:
        """Until all of these may move, or so many seconds have passed; `tell` hears of each look."""
        end = self._clock() + seconds
        while True:
            plan = self.plan_within(end - self._clock())
            tell(plan)
            chosen = [each for each in plan.vips if each.vip in vips]
            if not any(each.why_not(plan.sync, share) for each in chosen) or self._clock() >= end:
                return plan
            self._sleep(LOOK_APART)

    def move(self, vip: VipPlan, steps: Steps, within: float) -> str:
        """Move it, and look whether its packets come here. Why it was taken back; empty when it stays."""
        before = self._packets(vip)
        try:
            self._all(steps.release, vip.vip)
            self._all(steps.take, vip.vip)
        except DirectorError as error:
            return self._return(vip, steps, error.detail)
        end, why = self._clock() + within, f"no packet has come here within {within:g} s"
        while vip.there:
            try:
                if self._packets(vip) > before:
                    break
            except UnreachableError as error:
                why = error.detail
            if self._clock() >= end:
                return self._return(vip, steps, why)
            self._sleep(LOOK_APART)
        return ""

    def take_back(self, vip: str, steps: Steps) -> None:
        """The way back of a VIP that was moved before. DirectorError when a command fails."""
        self._all(steps.untake, vip)
        self._all(steps.back, vip)

    def _return(self, vip: VipPlan, steps: Steps, why: str) -> str:
        failed = []
        for command in (*steps.untake, *steps.back):
            try:
                self._run(command.replace("{vip}", vip.vip))
            except DirectorError as error:
                failed.append(error.detail)
        return f"{why}; on the way back: {'; '.join(failed)}" if failed else why

    def _all(self, commands: Sequence[str], vip: str) -> None:
        for command in commands:
            self._run(command.replace("{vip}", vip))

    def _packets(self, vip: VipPlan) -> int:
        services = (self._client.get(f"/v1/services/{name}") for name in vip.services)
        return sum(int(each["traffic"]["packets"]) for each in services)


def active(listing: str, marks: Mapping[str, Sequence[str]]) -> Mapping[str, int]:
    """Active connections by listener, of `ipvsadm -L -n`. Those of a firewall mark count for its first listener."""
    found: dict[str, int] = {}
    current: list[str] = []
    for line in listing.splitlines():
        words = line.split()
        if server := _SERVER.match(line):
            for text in current[:1]:
                found[text] = found.get(text, 0) + int(server[2])
        elif words[:1] in (["TCP"], ["UDP"], ["SCTP"]) and len(words) > 1:
            current = [_listener(words[1], words[0].lower())]
        elif words[:1] == ["FWM"] and len(words) > 1:
            current = list(marks.get(words[1], ()))
    return found


def _listener(place: str, protocol: str) -> str:
    host, _, port = place.rpartition(":")
    return f"{host}:{'*' if port == '0' else port}/{protocol}"


def document(plan: Plan, share: float) -> dict[str, Any]:
    """For scripts."""
    return {
        "vips": [{**vars(each), "why_not": each.why_not(plan.sync, share)} for each in plan.vips],
        "left": plan.left,
        "sync": plan.sync,
    }
