# SPDX-License-Identifier: Apache-2.0
"""ipvsadm's commands that change something, with the kernel's own refusals, and those of direct routing at XDP.

Knows what is wanted and what may be wanted; nothing of output or counters.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from xdpdirector.lvs import documents
from xdpdirector.lvs.command import FAILED, PROGRAM, USAGE, Command, EndedError, is_unicast
from xdpdirector.lvs.desired import Desired
from xdpdirector.lvs.documents import Document, Marks
from xdpdirector.lvs.memory import Memory
from xdpdirector.lvs.virtual import Destination, Virtual, VirtualKey
from xdpdirector.model.listener import Address

OwnAddress = Callable[[int, frozenset[Address]], Address | None]
"""An address of this machine, of IP version 4 or 6, that is none of those."""

NO_SUCH = "No such service"
UNDEFINED = "Service not defined"
UNKNOWN_SCHEDULER = "Scheduler or persistence engine not found"
INVALID = "Invalid operation.  Possibly wrong module version, address not unicast, ..."
OUT_OF_RANGE = "Numerical result out of range"


def failed(text: str) -> EndedError:
    """As when the kernel refuses."""
    return EndedError(text, FAILED, lasting=False)


def refused(text: str) -> EndedError:
    """What ipvsadm can ask of IPVS, and of nobody here."""
    return EndedError(f"{PROGRAM}: {text}", USAGE, lasting=False)


class Changes:
    """Carries out commands on `desired`. `own`: where packets for the director itself go."""

    def __init__(self, desired: Desired, own: OwnAddress, memory: Memory) -> None:
        self._desired, self._own, self._memory = desired, own, memory
        self._marks = Marks((desired.rest.get("lvs") or {}).get("fwmarks") or {})

    def run(self, command: Command) -> None:
        """EndedError when it is refused; DirectorError when the daemon refuses it."""
        refuse_elsewhere(command)
        doing: dict[str, Callable[[Command], None]] = {
            "add-service": self._add,
            "edit-service": self._edit,
            "delete-service": self._delete,
            "clear": self._clear,
            "add-server": self._add_server,
            "edit-server": self._edit_server,
            "delete-server": self._delete_server,
        }
        doing[command.name](command)

    def find(self, key: VirtualKey) -> tuple[str, Document] | None:
        """The service that this virtual service is; EndedError when it is a part of one only."""
        for name, document in self._desired.services.items():
            found = documents.keys_of(document, self._marks)
            if key in found.keys:
                if not found.whole:
                    raise failed(
                        f"{PROGRAM}: {documents.listeners_of(key, self._marks, persistent=False)[0]} is one of "
                        f"several listeners of the service '{name}', which have their backends together: change "
                        f"it with `xdpdirector service` and `backend`, or name them all by a firewall mark"
                    )
                return name, document
        return None

    def _add(self, command: Command) -> None:
        wanted = self._virtual(command)
        if self.find(wanted.key):
            raise failed("Service already exists")
        _check_scheduler(command)
        fields = documents.service_fields(wanted, self._marks)
        if not fields["listeners"]:
            raise refused(
                f"firewall mark {command.fwmark} stands for no {_family(wanted.key)} listener here, and packets "
                "have none: say in the configuration file which it stands for, like "
                f'lvs: {{fwmarks: {{{command.fwmark}: ["192.0.2.10:80/tcp"]}}}}'
            )
        if self._memory.timeouts:
            fields["timeouts"] = self._memory.timeouts
        name = self._free_name(wanted.key)
        self._desired.create(name, fields)
        self._memory.forget(name)

    def _free_name(self, key: VirtualKey) -> str:
        name, number = documents.service_name(key), 2
        while name in self._desired.services:
            name, number = f"{documents.service_name(key)}-{number}", number + 1
        return name

    def _edit(self, command: Command) -> None:
        wanted = self._virtual(command)
        name, _ = self._found(wanted.key, NO_SUCH)
        _check_scheduler(command)
        self._desired.change(name, documents.service_fields(wanted, self._marks))

    def _clear(self, _: Command) -> None:
        self._desired.clear()
        self._memory.forget_all()

    def _delete(self, command: Command) -> None:
        self._desired.remove(self._found(_key(command), NO_SUCH)[0])

    def _add_server(self, command: Command) -> None:
        key, (name, document) = _key(command), self._found(_key(command), UNDEFINED)
        wanted = _destination(command)
        _check_range(wanted)
        _check_tunnel(wanted, document)
        if self._server(name, document, key, wanted):
            raise failed("Destination already exists")
        if not is_unicast(wanted.address):
            raise failed(INVALID)
        at = self._where(wanted.address, document)
        taken = {backend: each["address"] for backend, each in documents.backends_of(document)}
        if str(at) in taken.values():
            raise refused(
                f"the service '{name}' has {wanted.address} already: a server is in it once, whatever its port"
            )
        backend, number = documents.backend_name(wanted.address), 2
        while backend in taken:
            backend, number = f"{documents.backend_name(wanted.address)}-{number}", number + 1
        self._desired.create_backend(name, backend, documents.backend_fields(wanted, key, at, document))
        self._memory.forget(name, backend)

    def _edit_server(self, command: Command) -> None:
        key, (name, document) = _key(command), self._found(_key(command), UNDEFINED)
        wanted = _destination(command)
        _check_range(wanted)
        _check_tunnel(wanted, document)
        backend = self._server(name, document, key, wanted)
        if not backend:
            raise failed("No such destination")
        fields = documents.backend_fields(wanted, key, wanted.address, document)
        for kept in ("address", "labels"):
            del fields[kept]
        self._desired.change_backend(name, backend, fields)

    def _delete_server(self, command: Command) -> None:
        key, (name, document) = _key(command), self._found(_key(command), UNDEFINED)
        backend = self._server(name, document, key, _destination(command))
        if not backend:
            raise failed("No such destination")
        self._desired.remove_backend(name, backend)

    def _found(self, key: VirtualKey, otherwise: str) -> tuple[str, Document]:
        found = self.find(key)
        if not found:
            raise failed(otherwise)
        return found

    def _server(self, name: str, document: Document, key: VirtualKey, wanted: Destination) -> str | None:
        """The backend that is this destination. IPVS tells them apart by port, too."""
        for backend, each in documents.backends_of(document):
            found = documents.destination_of(name, backend, each, key, document)
            if (found.address, found.port) == (wanted.address, wanted.port):
                return backend
        return None

    def _where(self, address: Address, document: Document) -> Address:
        """Where the director sends to: an address of its own, where loopback or the VIP is meant."""
        vips = frozenset(ip_address(each.rpartition(":")[0].strip("[]")) for each in document["listeners"])
        if not address.is_loopback and address not in vips:
            return address
        own = self._own(address.version, vips)
        if own is None:
            raise refused(
                f"{address} means this machine, whose interfaces have no IPv{address.version} address but VIPs"
            )
        return own

    def _virtual(self, command: Command) -> Virtual:
        key = _key(command)
        whole = 128 if key.is_ipv6 else 32
        mask = whole if command.mask is None else command.mask
        return Virtual(key, command.scheduler, command.persistent, mask, command.one_packet, command.flags)


def refuse_elsewhere(command: Command) -> None:
    """EndedError for what IPVS does and this director does not."""
    if command.name in ("start-daemon", "stop-daemon"):
        raise refused(
            "connections are exchanged with LVS directors as the configuration file says in lvs.sync, and not by a "
            "command: set it there, and restart xdpdirector"
        )
    if command.name in ("add-server", "edit-server"):
        _refuse_method(command)
    if command.odd_mask and command.persistent:
        raise refused(f"the netmask {command.odd_mask} is not a prefix: persistence is by prefix here")
    if command.persistent and command.one_packet:
        raise refused("one-packet scheduling remembers nothing, and persistence does: use one of them")


def _refuse_method(command: Command) -> None:
    if command.method == "m":
        raise refused(
            "masquerading (NAT) is not what this director does: it forwards by direct routing (-g) or through "
            "tunnels (-i), and the server needs the virtual address on its loopback"
        )
    if command.method == "i" and command.tunnel == "gre":
        raise refused("tunnels are IP in IP and GUE here, and no GRE: use --tun-type ipip or gue")
    if command.method == "i" and command.options & {"tun-csum", "tun-remcsum"}:
        raise refused("tunnels have no checksum of their own here: use --tun-nocsum")


def _check_scheduler(command: Command) -> None:
    if command.scheduler not in documents.SCHEDULERS or command.engine not in ("", "sip"):
        raise failed(UNKNOWN_SCHEDULER)
    if command.engine:
        raise failed(f"{UNKNOWN_SCHEDULER}\n{PROGRAM}: persistence is by address here, not by SIP's Call-ID")


def _check_tunnel(wanted: Destination, document: Document) -> None:
    """All servers of a service receive GUE on one port."""
    port = documents.tunnel_port_of(document)
    if wanted.forward == "gue" and wanted.tunnel_port != port:
        raise refused(
            f"GUE goes to port {port} of this service's servers: set `tunnel: {{port: {wanted.tunnel_port}}}` for "
            f"all of them, or use --tun-port {port}"
        )


def _check_range(wanted: Destination) -> None:
    if wanted.lower > wanted.upper:
        raise failed(OUT_OF_RANGE)


def _key(command: Command) -> VirtualKey:
    key = command.service
    assert key is not None, "the command needs a service, which was checked"
    return key


def _destination(command: Command) -> Destination:
    assert command.server is not None, "the command needs a server, which was checked"
    forward = command.tunnel if command.method == "i" else "direct"
    return Destination(
        command.server,
        command.server_port,
        command.weight,
        command.upper,
        command.lower,
        forward=forward,
        tunnel_port=command.tunnel_port if forward == "gue" else 0,
    )


def _family(key: VirtualKey) -> str:
    return "IPv6" if key.is_ipv6 else "IPv4"


def timeouts_said(said: tuple[int, int, int], now: dict[str, Any]) -> dict[str, str]:
    """What `--set` asks for; 0 leaves what is."""
    return {
        name: f"{value}s" if value else now[name]
        for name, value in zip(("tcp", "tcpfin", "udp"), said, strict=True)
    }
