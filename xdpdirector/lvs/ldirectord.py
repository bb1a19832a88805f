# SPDX-License-Identifier: Apache-2.0
"""ldirectord.cf's virtual services as services. Nothing is dropped without a word: what is left is listed."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any

from xdpdirector.lvs.documents import (
    RINGS,
    SCHEDULERS,
    Marks,
    backend_name,
    listeners_of,
    service_name,
)
from xdpdirector.lvs.imported import Imported, Origin, duration
from xdpdirector.lvs.names import Names, place
from xdpdirector.lvs.virtual import ANY4, ANY6, VirtualKey
from xdpdirector.model.listener import Address

KINDS = {
    "http": "http",
    "https": "https",
    "smtp": "smtp",
    "submission": "smtp",
    "pop": "pop3",
    "pops": "pop3",
    "imap": "imap",
    "imaps": "imap",
    "ftp": "ftp",
    "ldap": "ldap",
    "ldaps": "ldap",
    "dns": "dns",
    "mysql": "mysql",
    "pgsql": "postgres",
}
"""By `service`. `pops`, `imaps` and `ldaps` are over TLS."""
USUAL = {
    21: "ftp",
    25: "smtp",
    53: "dns",
    80: "http",
    110: "pop",
    143: "imap",
    389: "ldap",
    443: "https",
    587: "submission",
    636: "ldaps",
    993: "imaps",
    995: "pops",
    3306: "mysql",
    5432: "pgsql",
}
TIMEOUT, INTERVAL = 5.0, 10.0
"""ldirectord's own."""
CHECKED = ("checktimeout", "negotiatetimeout", "checkinterval", "checkcount", "failurecount")
TAKEN = (
    *CHECKED,
    "real",
    "service",
    "checktype",
    "checkcommand",
    "checkport",
    "request",
    "receive",
    "virtualhost",
    "scheduler",
    "persistent",
    "netmask",
    "protocol",
    "fallback",
    "fallback6",
    "login",
    "database",
    "schedflags",
    "servicename",
    "comment",
    "ops",
)
WHY: Mapping[str, tuple[str, str]] = {
    "autoreload": ("the daemon reads its file again when it is told to", "xdpdirector config apply FILE"),
    "callback": ("programs are not run", "Follow xdpdirector events -f -o json"),
    "checkintervals": ("a check has one interval", "Choose it"),
    "connecttimeout": ("ldirectord has long called it negotiatetimeout", "Call it so"),
    "load": ("ldirectord reads it, and does nothing with it", "Leave it out"),
    "cleanstop": ("packets outlive the daemon here", "xdpdirector unload takes the director away"),
    "emailalert": ("no mail is sent", "Have Prometheus send alerts: docs/monitoring.md"),
    "execute": ("this daemon starts no other", "Write a unit for it"),
    "fallbackcommand": ("programs are not run", "Follow xdpdirector events -f -o json"),
    "fork": ("checks of all services run side by side here", "Nothing needs to be done"),
    "httpmethod": ("pages are asked for by GET here", "Nothing needs to be done"),
    "logfile": (
        "the daemon writes to its standard error, which the journal keeps",
        "Nothing needs to be done",
    ),
    "maintenancedir": ("maintenance is no file here", "xdpdirector backend maintenance SERVICE/BACKEND"),
    "monitorfile": ("programs are not run", "Follow xdpdirector events -f -o json"),
    "passwd": ("no password is sent by a check", "Nothing needs to be done"),
    "quiescent": (
        "a backend that fails gets nothing here; persistent clients get another",
        "See on_down: drop",
    ),
    "readdquiescent": ("a backend that fails gets nothing here", "Nothing needs to be done"),
    "secret": ("no password is sent by a check", "Nothing needs to be done"),
    "smtp": ("no mail is sent", "Have Prometheus send alerts: docs/monitoring.md"),
    "supervised": ("systemd watches the daemon", "Nothing needs to be done"),
    "emailalertfreq": ("no mail is sent", "Have Prometheus send alerts: docs/monitoring.md"),
    "emailalertfrom": ("no mail is sent", "Have Prometheus send alerts: docs/monitoring.md"),
    "emailalertstatus": ("no mail is sent", "Have Prometheus send alerts: docs/monitoring.md"),
}
UNKNOWN = ("this import knows no such key", "Look it up, or leave it out")
MALFORMED = ("its value cannot be read", "Write it by hand")

Said = dict[str, tuple[str, Origin]]


def read(
    text: str, file: str, names: Names, *, fwmarks: Mapping[str, Sequence[str]] | None = None
) -> Imported:
    """`fwmarks`: what marks stand for; the file cannot say."""
    made = _Import(names, {mark: list(listeners) for mark, listeners in (fwmarks or {}).items()})
    sections: list[tuple[Origin | None, list[tuple[str, str, Origin]]]] = [(None, [])]
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        key, sign, value = line.partition("=")
        origin, key = Origin(file, number, " ".join(line.split())), key.strip().lower()
        if key == "virtual":
            sections.append((origin, [(key, value.strip(), origin)]))
        elif not sign and key not in ("supervised",):
            made.imported.leave(origin, *MALFORMED)
        else:
            is_of_virtual = line[:1].isspace() and len(sections) > 1
            sections[-1 if is_of_virtual else 0][1].append((key, value.strip(), origin))
    made.all(sections[0][1], [lines for _, lines in sections[1:]])
    return made.imported


class _Import:
    """One file."""

    def __init__(self, names: Names, fwmarks: dict[str, list[str]]) -> None:
        self.imported = Imported()
        self._names, self._fwmarks, self._marks = names, fwmarks, Marks(fwmarks)
        self._globals: Said = {}

    def all(
        self, general: Sequence[tuple[str, str, Origin]], virtuals: Sequence[list[tuple[str, str, Origin]]]
    ) -> None:
        for key, value, origin in general:
            if key in (*CHECKED, "fallback", "fallback6"):
                self._globals[key] = (_bare(value), origin)
            else:
                self.imported.leave(origin, *WHY.get(key, UNKNOWN))
        for lines in virtuals:
            self._virtual(lines)

    def _virtual(self, lines: list[tuple[str, str, Origin]]) -> None:
        said: Said = {**self._globals}
        for word, value, origin in lines[1:]:
            if word not in TAKEN:
                self.imported.leave(origin, *WHY.get(word, UNKNOWN))
            elif word != "real":
                said[word] = (_bare(value), origin)
        _, where, origin = lines[0]
        try:
            key = self._key(where, said)
        except ValueError as error:
            self.imported.leave(origin, f"it cannot be a listener here: {error}", "Write it by hand")
            return
        listeners = listeners_of(key, self._marks, persistent="persistent" in said)
        if not listeners:
            why = f"what the firewall mark {key.fwmark} stands for is in the rules of iptables or nft"
            self.imported.leave(origin, why, f"Say it: --fwmark {key.fwmark}=192.0.2.10:80/tcp")
            return
        if key.fwmark:
            self.imported.fwmarks[str(key.fwmark)] = self._fwmarks[str(key.fwmark)]
        name = service_name(key)
        if name in self.imported.services:
            self.imported.leave(origin, "this virtual service stands twice", "Remove one")
            return
        self._service(name, key, listeners, said, [each for each in lines if each[0] == "real"], origin)

    def _service(
        self,
        name: str,
        key: VirtualKey,
        listeners: list[str],
        said: Said,
        reals: list[tuple[str, str, Origin]],
        origin: Origin,
    ) -> None:
        service: dict[str, Any] = {"listeners": listeners}
        self.imported.services[name] = service
        self.imported.came_from(
            (name,), origin, *(said[each][1] for each in ("servicename", "comment") if each in said)
        )
        self._options(name, key, service, said)
        backends: dict[str, Any] = {}
        service["backends"] = backends
        for _, value, where in reals:
            self._real(name, key, backends, value, where)
        self._fallback(name, key, service, said)
        check = self._check(name, key, said)
        if check:
            service.pop("backends")
            service["check"] = check
            service["backends"] = backends

    def _key(self, where: str, said: Said) -> VirtualKey:
        """ValueError for what is no virtual service here."""
        protocol = said["protocol"][0] if "protocol" in said else ""
        if where.isdigit():
            return VirtualKey(int(where), "", ANY4, 0)
        if where.endswith("6") and where[:-1].strip().isdigit() and protocol == "fwm":
            return VirtualKey(int(where[:-1]), "", ANY6, 0)
        found = place(where, protocol or "tcp", self._names)
        if found is None or found.port is None:
            raise ValueError(f"'{where}' is no address with a port")
        return VirtualKey(0, protocol or ("udp" if found.port == 53 else "tcp"), found.address, found.port)

    def _options(self, name: str, key: VirtualKey, service: dict[str, Any], said: Said) -> None:
        if "scheduler" in said:
            value, origin = said["scheduler"]
            if value in SCHEDULERS:
                service["scheduler"] = value
                service |= {"hash": "address"} if value in RINGS else {}
                self.imported.came_from((name, "scheduler"), origin)
            else:
                self.imported.leave(origin, f"the scheduler {value} is not here", "wlc is used instead")
        for flag in said["schedflags"][0].split(",") if "schedflags" in said else ():
            self._flag(name, service, flag, said["schedflags"][1])
        if "persistent" in said and not said["persistent"][0].strip("0"):
            self.imported.leave(said["persistent"][1], *MALFORMED)
        elif "persistent" in said:
            try:
                prefix = self._prefix(key, said)
            except ValueError:
                self.imported.leave(said["netmask"][1], "persistence is by prefix here", "Choose one")
                prefix = {}
            service["persistence"] = {"timeout": f"{said['persistent'][0]}s", **prefix, "on_drain": "keep"}
            where = [said[each][1] for each in ("persistent", "netmask") if each in said]
            self.imported.came_from((name, "persistence"), *where)
        if "ops" in said and said["ops"][0] == "yes":
            service["one_packet"] = True
            self.imported.came_from((name, "one_packet"), said["ops"][1])

    def _flag(self, name: str, service: dict[str, Any], flag: str, origin: Origin) -> None:
        scheduler = service.get("scheduler")
        if scheduler in RINGS and flag == f"{scheduler}-port":
            service["hash"] = "flow"
            self.imported.came_from((name, "hash"), origin)
        elif scheduler in RINGS and flag == f"{scheduler}-fallback":
            self.imported.came_from((name, "scheduler"), origin)
        else:
            self.imported.leave(origin, "this flag of a scheduler does nothing here", "Leave it out")

    def _prefix(self, key: VirtualKey, said: Said) -> dict[str, int]:
        if "netmask" not in said:
            return {}
        text = said["netmask"][0]
        if key.is_ipv6:
            return {"prefix6": int(text)}
        mask = int(ip_address(text))
        bits = mask.bit_count()
        if mask != (0xFFFFFFFF << (32 - bits)) & 0xFFFFFFFF:
            raise ValueError(text)
        return {"prefix": bits}

    def _real(self, name: str, key: VirtualKey, backends: dict[str, Any], value: str, origin: Origin) -> None:
        words = shlex.split(value)
        try:
            addresses, port = self._addresses(words[0], key)
            method, rest = (words[1] if len(words) > 1 else "gate"), words[2:]
            weight = int(rest.pop(0)) if rest and rest[0].isdigit() else 1
        except (ValueError, IndexError):
            self.imported.leave(origin, *MALFORMED)
            return
        if method not in ("gate", "ipip"):
            self.imported.leave(
                origin,
                "this director forwards by direct routing or through tunnels",
                "Put the VIP on the server's loopback (xdpdirector-backend does)",
            )
        if port not in (None, 0, key.port) and key.port:
            self.imported.leave(
                origin, "direct routing keeps the destination port", f"Listen on {key.port}, too"
            )
        if rest:
            self.imported.leave(
                origin, "all servers of a service have one check", "Choose its request and answer"
            )
        for address in addresses:
            backend = self._backend(name, backends, address, weight, origin)
            if backend and method == "ipip":
                backends[backend]["forward"] = "ipip"

    def _backend(
        self, name: str, backends: dict[str, Any], address: Address, weight: int, origin: Origin
    ) -> str | None:
        if address.is_loopback:
            self.imported.leave(
                origin,
                "a backend's address is on the network here",
                "Write an address of the director itself, which serves then",
            )
            return None
        backend = backend_name(address)
        backends.setdefault(backend, {"address": str(address), **({"weight": weight} if weight != 1 else {})})
        self.imported.came_from((name, "backends", backend), origin)
        return backend

    def _addresses(self, text: str, key: VirtualKey) -> tuple[list[Address], int | None]:
        """Of `HOST`, `HOST:PORT` and `FIRST->LAST:PORT`; ValueError for what is none of it."""
        first, arrow, last = text.partition("->")
        begin = place(first, key.protocol, self._names)
        end = place(last, key.protocol, self._names) if arrow else begin
        if begin is None or end is None or not 0 <= int(end.address) - int(begin.address) < 256:
            raise ValueError(text)
        kind = type(begin.address)
        found = [kind(number) for number in range(int(begin.address), int(end.address) + 1)]
        return found, end.port

    def _fallback(self, name: str, key: VirtualKey, service: dict[str, Any], said: Said) -> None:
        wanted = "fallback6" if key.is_ipv6 and "fallback6" in said else "fallback"
        if wanted not in said:
            return
        value, origin = said[wanted]
        try:
            addresses, _ = self._addresses(value.split()[0], key)
        except (ValueError, IndexError):
            self.imported.leave(origin, *MALFORMED)
            return
        if addresses[0].version != key.address.version:
            return
        backend = self._backend(name, service["backends"], addresses[0], 1, origin)
        if backend:
            service["fallback"] = backend
            self.imported.came_from((name, "fallback"), origin)

    def _check(self, name: str, key: VirtualKey, said: Said) -> dict[str, Any]:
        try:
            check = self._checked(name, key, said)
        except (ValueError, IndexError):
            self.imported.leave(
                self.imported.origins[name,][0], "its check cannot be read", "Write it by hand"
            )
            return {}
        words = (
            "checktype",
            "service",
            "checkcommand",
            "request",
            "receive",
            "virtualhost",
            "checkport",
            *CHECKED,
        )
        if check:
            self.imported.came_from((name, "check"), *(said[word][1] for word in words if word in said))
        return check

    def _checked(self, name: str, key: VirtualKey, said: Said) -> dict[str, Any]:
        def value(word: str, otherwise: str = "") -> str:
            return said[word][0] if word in said else otherwise

        kind = value("checktype", "negotiate")
        service = value("service", USUAL.get(key.port, "none"))
        if kind in ("on", "off") or (kind == "negotiate" and service == "none"):
            if kind == "off":
                self.imported.leave(
                    said["checktype"][1], "servers that nobody asks are taken for well", "Drain them"
                )
            return {}
        interval = float(value("checkinterval", str(INTERVAL)))
        timeout = float(value("negotiatetimeout") or value("checktimeout", str(TIMEOUT)))
        fall = int(value("failurecount") or value("checkcount", "1"))
        common = {
            "interval": duration(interval),
            "timeout": duration(min(timeout, interval)),
            "rise": 1,
            "fall": fall,
            "via": "address",
        }
        port = {"port": int(value("checkport"))} if "checkport" in said else {}
        if kind == "ping":
            return {"type": "icmp", **common}
        if kind.startswith("external"):
            return self._external(name, said, common)
        if kind != "negotiate" and kind != "connect":
            self.imported.leave(said["checktype"][1], "a check is of one kind here", "It became negotiate")
        if kind == "connect" or service not in KINDS:
            if kind != "connect":
                self.imported.leave(
                    self.imported.origins[name,][0], f"there is no check of {service} here", "It became tcp"
                )
            is_udp = key.protocol == "udp"
            return {"type": "udp" if is_udp else "tcp", **common, **port}
        return {"type": KINDS[service], **common, **port, **self._negotiated(service, value)}

    def _external(self, name: str, said: Said, common: dict[str, Any]) -> dict[str, Any]:
        command = shlex.split(said["checkcommand"][0]) if "checkcommand" in said else []
        if not command or not command[0].startswith("/"):
            self.imported.leave(
                self.imported.origins[name,][0], "a program is named by its whole path here", "Write it"
            )
            return {}
        self.imported.leave(
            said["checkcommand"][1],
            "a program is told the backend by XDPDIRECTOR_ADDRESS in its environment, and by no argument",
            "Have the program read it: docs/checks.md",
        )
        if command[0] not in self.imported.programs:
            self.imported.programs.append(command[0])
        return {"type": "exec", **common, "command": command}

    def _negotiated(self, service: str, value: Any) -> dict[str, Any]:
        fields: dict[str, Any] = {}
        request, receive = value("request"), value("receive")
        if service in ("http", "https"):
            fields["path"] = "/" + request.lstrip("/")
            fields |= {"body": receive} if receive else {}
            fields |= {"host": value("virtualhost")} if value("virtualhost") else {}
        elif service == "dns":
            fields["name"] = request or "."
            fields |= {"answer": receive} if receive else {}
        elif service in ("pops", "imaps", "ldaps"):
            fields["tls"] = "direct"
        elif service in ("mysql", "pgsql"):
            fields |= {"user": value("login")} if value("login") else {}
            if service == "pgsql" and value("database"):
                fields["database"] = value("database")
        return fields


def _bare(value: str) -> str:
    """Without its quotes."""
    return value[1:-1] if len(value) > 1 and value[0] == value[-1] == '"' else value
