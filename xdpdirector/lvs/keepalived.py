# SPDX-License-Identifier: Apache-2.0
"""keepalived.conf's virtual servers as services. Nothing is dropped without a word: what is left is listed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from xdpdirector.lvs import keepalived_checks
from xdpdirector.lvs.documents import (
    RINGS,
    SCHEDULERS,
    Marks,
    backend_name,
    listeners_of,
    service_name,
)
from xdpdirector.lvs.imported import Imported, Origin
from xdpdirector.lvs.keepalived_text import Includer, Statement, parse
from xdpdirector.lvs.virtual import ANY4, ANY6, VirtualKey

THRESHOLDS = {"weight": "weight", "uthreshold": "max_connections", "lthreshold": "resume_connections"}
MALFORMED = ("its value cannot be read", "Write it by hand")
FLAGS = ("hashed", "flag-1", "flag-2", "flag-3", "sh-port", "sh-fallback", "mh-port", "mh-fallback")
NAT = (
    "this director forwards by direct routing or through tunnels",
    "Put the VIP on the server's loopback (xdpdirector-backend does)",
)
WHY: Mapping[str, tuple[str, str]] = {
    "alpha": (
        "a backend is unknown, and gets nothing, until its first check here",
        "Nothing needs to be done",
    ),
    "nat_mask": ("it is of NAT, and long without effect", "Leave it out"),
    "omega": ("packets outlive the daemon here", "Drain a backend, or remove the service, to stop it"),
    "ha_suspend": ("checks go on without the VIP here", "Nothing needs to be done"),
    "hysteresis": ("there is no quorum here", "Watch the metric of serving backends"),
    "inhibit_on_failure": (
        "a backend that fails gets nothing here, and its clients a RST",
        "See on_down: drop",
    ),
    "notify_up": ("programs are not run", "Follow xdpdirector events -f --types backend.up -o json"),
    "notify_down": ("programs are not run", "Follow xdpdirector events -f --types backend.down -o json"),
    "quorum": ("there is no quorum here: one backend that serves is enough", "Name a fallback"),
    "quorum_up": ("programs are not run", "Follow xdpdirector events -f -o json"),
    "quorum_down": ("programs are not run", "Follow xdpdirector events -f -o json"),
    "smtp_alert": ("no mail is sent", "Have Prometheus send alerts: docs/monitoring.md"),
    "snmp_name": ("there is no SNMP here", "Have Prometheus ask for metrics: docs/monitoring.md"),
    "sorry_server_inhibit": ("a fallback that fails gets nothing here", "Nothing needs to be done"),
    "persistence_engine": ("persistence is by address here", "Leave it, or keep this service in IPVS"),
    "delay_before_retry": ("a check is repeated after its interval", "Choose interval and fall"),
    "warmup": ("checks begin at once here", "Nothing needs to be done"),
}
STAYS = ("vrrp_instance", "vrrp_sync_group")
GLOBAL: Mapping[str, tuple[str, str]] = {
    "lvs_sync_daemon": (
        "the sync protocol of IPVS is of the configuration here",
        "lvs: {sync: {role: both, interface: NAME, syncid: ID}}",
    ),
    "lvs_flush": ("the daemon owns its services, and goes on with them", "Nothing needs to be done"),
    "lvs_flush_on_stop": ("packets outlive the daemon here", "xdpdirector unload takes the director away"),
    "nftables_ipvs": ("one service has all addresses of a group here", "Nothing needs to be done"),
}
"""What is of LVS in global_defs, but for lvs_timeouts."""
TIMEOUTS, LONGEST = ("tcp", "tcpfin", "udp"), 86400
"""Kinds of connections, and the most seconds that `timeouts` takes."""
SSL = (
    "a check has no certificate of its own here, nor a password",
    "Let the server ask for none; authorities are ca of each check, with verify",
)
OTHER = ("VRRP and what goes with it stays in keepalived", "Leave it there, without its virtual servers")


def read(
    text: str,
    file: str,
    include: Includer,
    *,
    config_id: str | None = None,
    fwmarks: Mapping[str, Sequence[str]] | None = None,
) -> Imported:
    """`fwmarks`: what marks stand for; the file cannot say."""
    parsed = parse(text, file, include, config_id)
    made = _Import({mark: list(listeners) for mark, listeners in (fwmarks or {}).items()})
    for origin, why in parsed.passed:
        made.imported.leave(origin, why, "Import it by itself if it is wanted")
    made.all(parsed.statements)
    return made.imported


class _Import:
    """One file with those that it includes."""

    def __init__(self, fwmarks: dict[str, list[str]]) -> None:
        self.imported = Imported()
        self._fwmarks = fwmarks
        self._marks = Marks(fwmarks)
        self._groups: dict[str, Statement] = {}
        self._members: list[Origin] = []

    def all(self, statements: Sequence[Statement]) -> None:
        for each in statements:
            if each.keyword == "virtual_server_group" and each.arguments:
                self._groups[each.arguments[0]] = each
        for each in statements:
            if each.keyword == "virtual_server":
                self._virtual_server(each)
            elif each.keyword != "virtual_server_group":
                self._leave(each)
        for each in statements:
            if each.keyword == "global_defs":
                self._global(each.block or [])

    def _leave(self, statement: Statement) -> None:
        """What is of no virtual server."""
        if statement.keyword in STAYS:
            self.imported.external_vips.append(statement.origin)
        self.imported.leave(statement.origin, *(SSL if statement.keyword == "SSL" else OTHER))

    def _global(self, block: Sequence[Statement]) -> None:
        for each in block:
            if each.keyword == "lvs_timeouts":
                self._timeouts(each)
            elif each.keyword in GLOBAL:
                self.imported.leave(each.origin, *GLOBAL[each.keyword])

    def _timeouts(self, statement: Statement) -> None:
        """Of all services; IPVS has one set of them for all."""
        words = statement.arguments
        try:
            said = {name: int(value) for name, value in zip(words[::2], words[1::2], strict=True)}
        except ValueError:
            said = {}
        if (
            not said.keys() <= {*TIMEOUTS}
            or not all(1 <= each <= LONGEST for each in said.values())
            or not said
        ):
            self.imported.leave(statement.origin, *MALFORMED)
            return
        for name, service in self.imported.services.items():
            service["timeouts"] = {kind: f"{seconds}s" for kind, seconds in said.items()}
            self.imported.came_from((name, "timeouts"), statement.origin)

    def _virtual_server(self, statement: Statement) -> None:
        block = statement.block or []
        said = {each.keyword: each for each in block if each.keyword != "real_server"}
        protocol = _word(said, "protocol", "TCP").lower()
        listeners, name = self._listeners(statement, protocol, _word(said, "ip_family", "inet"))
        if not listeners:
            return
        name = self._free(name)
        service: dict[str, Any] = {"listeners": listeners}
        self.imported.services[name] = service
        self.imported.came_from((name,), statement.origin)
        self.imported.came_from((name, "listeners"), *self._members)
        self._members = []
        self._options(name, service, block)
        service["backends"] = {}
        checks = keepalived_checks.Checks(self.imported, name, said)
        for each in block:
            if each.keyword == "real_server":
                self._real_server(name, service, each, said, checks)
        if "sorry_server" in said:
            self._sorry_server(name, service, said["sorry_server"])
        checks.settle(service)
        if "check" not in service:
            for word in keepalived_checks.USED:
                if word in said:
                    self.imported.leave(
                        said[word].origin, "nothing is checked", "Add a check, or leave it out"
                    )
        backends = service.pop("backends")
        service["backends"] = backends

    def _free(self, name: str) -> str:
        free, number = name, 2
        while free in self.imported.services:
            free, number = f"{name}-{number}", number + 1
        return free

    def _listeners(self, statement: Statement, protocol: str, family: str) -> tuple[list[str], str]:
        words = statement.arguments
        if words[:1] == ["group"] and len(words) > 1:
            group = self._groups.get(words[1])
            if group is None:
                self.imported.leave(
                    statement.origin, f"there is no group {words[1]}", "Define it, or leave it out"
                )
                return [], ""
            found = [
                one for line in group.block or [] for one in self._line(line, line.words, protocol, family)
            ]
            self._members = [group.origin, *(line.origin for line in group.block or [])]
            return list(dict.fromkeys(found)), re.sub(r"[^A-Za-z0-9._-]", "-", words[1]).strip("-._")[
                :63
            ] or "group"
        keys = self._keys(statement, words, protocol, family)
        return [text for key in keys for text in self._texts(key, statement)], service_name(
            keys[0]
        ) if keys else ""

    def _line(self, line: Statement, words: list[str], protocol: str, family: str) -> list[str]:
        return [text for key in self._keys(line, words, protocol, family) for text in self._texts(key, line)]

    def _texts(self, key: VirtualKey, statement: Statement) -> list[str]:
        """As the documents write them. For a mark those that were said to be meant by it."""
        found = listeners_of(key, self._marks, persistent=False)
        if key.fwmark and not found:
            mark = key.fwmark
            self.imported.leave(
                statement.origin,
                f"what the firewall mark {mark} stands for is in the rules of iptables or nft",
                f"Say it: --fwmark {mark}=192.0.2.10:80/tcp",
            )
        elif key.fwmark:
            self.imported.fwmarks[str(key.fwmark)] = self._fwmarks[str(key.fwmark)]
        return found

    def _keys(self, statement: Statement, words: list[str], protocol: str, family: str) -> list[VirtualKey]:
        try:
            return _keys(words, protocol, family)
        except ValueError as error:
            self.imported.leave(
                statement.origin, f"it cannot be a listener here: {error}", "Write it by hand"
            )
            return []

    def _options(self, name: str, service: dict[str, Any], block: Sequence[Statement]) -> None:
        said = {each.keyword: each for each in block}
        for each in block:
            try:
                handled = self._option(name, service, each, said)
            except (ValueError, IndexError):
                self.imported.leave(each.origin, *MALFORMED)
                continue
            if not handled and each.keyword not in keepalived_checks.USED and each.keyword != "real_server":
                self._left(each)
        if "lb_kind" not in said and "lvs_method" not in said:
            self.imported.leave(
                self.imported.origins[name,][0], f"without lvs_method it is NAT, and {NAT[0]}", NAT[1]
            )

    def _option(
        self, name: str, service: dict[str, Any], each: Statement, said: Mapping[str, Statement]
    ) -> bool:
        value = each.arguments[0] if each.arguments else ""
        match each.keyword:
            case "lb_algo" | "lvs_sched":
                self._scheduler(name, service, each)
            case "lb_kind" | "lvs_method":
                self._method(service, each)
                self.imported.came_from((name,), each.origin)
            case "ops":
                service["one_packet"] = True
                self.imported.came_from((name, "one_packet"), each.origin)
            case "persistence_timeout":
                self._persistence(name, service, each, said.get("persistence_granularity"))
            case "quorum":
                if value == "1":
                    self.imported.came_from((name,), each.origin)
                else:
                    self._left(each)
            case "protocol" | "ip_family":
                self.imported.came_from((name, "listeners"), each.origin)
            case "persistence_granularity" | "virtualhost" | "sorry_server" | "weight":
                self.imported.came_from((name,), each.origin)
            case flag if flag in FLAGS:
                self._flag(name, service, each, said)
            case _:
                return False
        return True

    def _scheduler(self, name: str, service: dict[str, Any], each: Statement) -> None:
        scheduler = each.arguments[0] if each.arguments else ""
        if scheduler in SCHEDULERS:
            service["scheduler"] = scheduler
            if scheduler in RINGS:
                service["hash"] = "address"
            self.imported.came_from((name, "scheduler"), each.origin)
        else:
            self.imported.leave(each.origin, f"the scheduler {scheduler} is not here", "wlc is used instead")

    def _persistence(
        self, name: str, service: dict[str, Any], each: Statement, prefix: Statement | None
    ) -> None:
        """0 is none."""
        seconds = int(each.arguments[0] if each.arguments else 360)
        self.imported.came_from((name, "persistence"), each.origin, *([prefix.origin] if prefix else []))
        if seconds:
            service["persistence"] = {"timeout": f"{seconds}s", **_prefix(prefix), "on_drain": "keep"}

    def _flag(
        self, name: str, service: dict[str, Any], each: Statement, said: Mapping[str, Statement]
    ) -> None:
        scheduler = next((said[key].arguments[:1] for key in ("lb_algo", "lvs_sched") if key in said), [])
        if each.keyword in ("sh-port", "mh-port") and scheduler == [each.keyword[:2]]:
            service["hash"] = "flow"
            self.imported.came_from((name, "hash"), each.origin)
        elif each.keyword.endswith("-fallback"):
            self.imported.came_from((name, "scheduler"), each.origin)
        else:
            self.imported.leave(each.origin, "this flag of a scheduler does nothing here", "Leave it out")

    def _method(self, spec: dict[str, Any], each: Statement, service: dict[str, Any] | None = None) -> None:
        """`spec`: a service, or a server of `service`. A type may follow: `TUN type gue port 6080`."""
        method, rest = each.arguments[:1], each.arguments[1:]
        kind = rest[rest.index("type") + 1] if "type" in rest else "ipip"
        if method == ["DR"]:
            if service and service.get("forward", "direct") != "direct":
                spec["forward"] = "direct"
        elif method == ["TUN"] and kind in ("ipip", "gue") and not {"csum", "remcsum"} & set(rest):
            spec["forward"] = kind
            if "port" in rest:
                (service or spec)["tunnel"] = {"port": int(rest[rest.index("port") + 1])}
        else:
            self.imported.leave(each.origin, *NAT)

    def _real_server(
        self,
        name: str,
        service: dict[str, Any],
        statement: Statement,
        virtual: Mapping[str, Statement],
        checks: keepalived_checks.Checks,
    ) -> None:
        backend = self._backend(name, service, statement)
        if backend is None:
            return
        spec = service["backends"][backend]
        if "weight" in virtual:
            spec["weight"] = _bounded(virtual["weight"])
        for each in statement.block or []:
            try:
                self._server_option(service, spec, each)
            except (ValueError, IndexError):
                self.imported.leave(each.origin, *MALFORMED)
                continue
            self.imported.came_from((name, "backends", backend), each.origin)
        checks.add(backend, statement)

    def _server_option(self, service: dict[str, Any], spec: dict[str, Any], each: Statement) -> None:
        match each.keyword:
            case "weight":
                spec["weight"] = _bounded(each)
            case "uthreshold" | "lthreshold":
                value = int(each.arguments[0])
                if value:
                    spec[THRESHOLDS[each.keyword]] = value
            case "lvs_method":
                self._method(spec, each, service)
            case "virtualhost":
                pass
            case keyword if keyword in keepalived_checks.USED or keyword in keepalived_checks.CHECKERS:
                pass
            case _:
                self._left(each)

    def _backend(self, name: str, service: dict[str, Any], statement: Statement) -> str | None:
        words = statement.arguments
        try:
            address = ip_address(words[0])
        except (ValueError, IndexError):
            self.imported.leave(
                statement.origin, "a backend is known by its address here", "Write its address"
            )
            return None
        if str(address) in {text.rpartition(":")[0].strip("[]") for text in service["listeners"]}:
            self.imported.leave(
                statement.origin,
                f"{address} is the service's own VIP, and a backend needs an address of its own beside it",
                "Write the server's own address",
            )
            return None
        if address.is_loopback:
            self.imported.leave(
                statement.origin,
                "a backend's address is on the network here",
                "Write an address of the director itself, which serves then",
            )
            return None
        backend = backend_name(address)
        if backend in service["backends"]:
            self.imported.leave(
                statement.origin, f"{address} is in this service already", "A server is in it once"
            )
            return None
        service["backends"][backend] = {"address": str(address)}
        self.imported.came_from((name, "backends", backend), statement.origin)
        ports = {text.rpartition(":")[2].partition("/")[0] for text in service["listeners"]}
        if len(words) > 1 and words[1] not in ports | {"0"} and "*" not in ports:
            self.imported.leave(
                statement.origin,
                "direct routing keeps the destination port",
                f"Let the server listen on {', '.join(sorted(ports))}, too",
            )
        return backend

    def _sorry_server(self, name: str, service: dict[str, Any], statement: Statement) -> None:
        address = statement.arguments[0] if statement.arguments else ""
        known = [key for key, spec in service["backends"].items() if spec["address"] == address]
        backend = known[0] if known else self._backend(name, service, statement)
        if backend is not None:
            service["fallback"] = backend
            self.imported.came_from((name, "fallback"), statement.origin)

    def _left(self, each: Statement) -> None:
        why, remedy = WHY.get(
            each.keyword, ("this import knows no such keyword here", "Look it up, or leave it out")
        )
        self.imported.leave(each.origin, why, remedy)


def _keys(words: list[str], protocol: str, family: str) -> list[VirtualKey]:
    """Of `ADDRESS [PORT]`, `FIRST-LAST [PORT]` and `fwmark MARK`; ValueError for what is none of it."""
    if words[:1] == ["fwmark"] and len(words) > 1:
        return [VirtualKey(int(words[1], 0), "", ANY6 if family == "inet6" else ANY4, 0)]
    if protocol not in ("tcp", "udp", "sctp"):
        raise ValueError(f"the protocol {protocol}")
    port = int(words[1]) if len(words) > 1 else 0
    first, dash, last = words[0].partition("-")
    start = ip_address(first)
    if not dash:
        return [VirtualKey(0, protocol, start, port)]
    base = 16 if start.version == 6 else 10
    end = ip_address(last) if "." in last or ":" in last else None
    stop = int(end) if end else int(start) - _last_part(first, base) + int(last, base)
    if not int(start) <= stop < int(start) + 256:
        raise ValueError(f"the range {words[0]}")
    return [VirtualKey(0, protocol, type(start)(number), port) for number in range(int(start), stop + 1)]


def _last_part(text: str, base: int) -> int:
    return int(re.split(r"[.:]", text)[-1] or "0", base)


def _prefix(granularity: Statement | None) -> dict[str, int]:
    if granularity is None or not granularity.arguments:
        return {}
    text = granularity.arguments[0]
    if "." not in text:
        return {"prefix6": int(text)} if int(text) > 32 else {"prefix": int(text)}
    return {"prefix": int(ip_address(text)).bit_count()}


def _bounded(statement: Statement) -> int:
    return max(0, min(65535, int(statement.arguments[0])))


def _word(said: Mapping[str, Statement], keyword: str, otherwise: str) -> str:
    statement = said.get(keyword)
    return statement.arguments[0] if statement and statement.arguments else otherwise
