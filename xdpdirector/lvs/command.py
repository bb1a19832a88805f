# SPDX-License-Identifier: Apache-2.0
"""What a command line of ipvsadm means, or ipvsadm's own error and exit status. Pure but for the names it asks for.

Options are judged one by one in their order, as ipvsadm does, so that the first fault is the one that is told.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, ip_address
from typing import Any, ClassVar, NamedTuple

from xdpdirector.lvs import rules
from xdpdirector.lvs.names import Names, netmask, number, place
from xdpdirector.lvs.popt import Arguments, Found, PoptError
from xdpdirector.lvs.virtual import ANY4, ANY6, VirtualKey
from xdpdirector.model.listener import Address

PROGRAM = "ipvsadm"
FAILED, USAGE = 255, 2
INT_MAX = (1 << 31) - 1
LONGEST = 86400 * 31
PERSISTENT = 360
"""Seconds, of `-p` alone: the kernel's and ipvsadm's number; its manual says 300."""
FLAGS = {"sh-fallback": "sh", "sh-port": "sh", "mh-fallback": "mh", "mh-port": "mh"}
PLAIN_FLAGS = ("flag-1", "flag-2", "flag-3")


class _Number(NamedTuple):
    """Where a number goes, its bounds, and what it is called."""

    key: str
    least: int
    most: int
    said: str


NUMBERS = {
    "weight": _Number("weight", 0, INT_MAX, "weight"),
    "u-threshold": _Number("upper", 0, INT_MAX, "u_threshold"),
    "l-threshold": _Number("lower", 0, INT_MAX, "l_threshold"),
    "syncid": _Number("", 0, 255, "syncid"),
    "mcast-port": _Number("", 1, 65535, "mcast-port"),
    "mcast-ttl": _Number("", 1, 255, "mcast-ttl"),
    "sync-maxlen": _Number("", 1, 65507, "sync-maxlen"),
    "tun-port": _Number("tunnel_port", 1, 65535, "tunnel port"),
}
METHODS = {"gatewaying": "g", "ipip": "i", "masquerading": "m"}


class EndedError(Exception):
    """The command ends here: `text` for standard error, and the exit status. `lasting`: so does the file that is
    restored."""

    def __init__(self, text: str, status: int, *, lasting: bool = True) -> None:
        super().__init__(text)
        self.text, self.status, self.lasting = text, status, lasting


@dataclass(frozen=True)
class Command:
    """`options`: subjects that were said. `service` is None where none was. `mask`: None when it was not said, or
    is no prefix (`odd_mask`)."""

    name: str = ""
    options: frozenset[str] = frozenset()
    fwmark: int = 0
    protocol: str = ""
    address: Address | None = None
    port: int = 0
    scheduler: str = ""
    persistent: int = 0
    mask: int | None = None
    odd_mask: str = ""
    one_packet: bool = False
    engine: str = ""
    flags: tuple[str, ...] = ()
    server: Address | None = None
    server_port: int = 0
    method: str = "g"
    tunnel: str = "ipip"
    tunnel_port: int = 0
    weight: int = 1
    upper: int = 0
    lower: int = 0
    timeouts: tuple[int, int, int] = (0, 0, 0)
    state: str = ""
    left: tuple[str, ...] = field(default=())

    @property
    def service(self) -> VirtualKey | None:
        if self.address is None:
            return None
        if self.fwmark:
            return VirtualKey(self.fwmark, "", ANY6 if self.address.version == 6 else ANY4, 0)
        return VirtualKey(0, self.protocol, self.address, self.port)


def parse(words: Sequence[str], names: Names) -> Command:
    """EndedError for everything that ipvsadm refuses by itself."""
    reading = _Reading(names)
    command = reading.command(words)
    _check_options(command)
    if command.name in ("add-service", "edit-service"):
        command = _service_checked(command)
    elif command.name in ("add-server", "edit-server"):
        command = _server_checked(command)
    elif command.name == "list":
        _check_list(command.options)
    return command


def try_help() -> EndedError:
    """What a command line gets that does not begin with a command."""
    return EndedError(f"Try `{PROGRAM} -h' or '{PROGRAM} --help' for more information.", FAILED)


def _usage(text: str) -> EndedError:
    return EndedError(text, USAGE)


class _Reading:
    """One command line. `_now` is what it said so far."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._now = Command()
        self._flags: str | None = None

    def command(self, words: Sequence[str]) -> Command:
        arguments = Arguments(words, rules.LONG, rules.SHORT)
        options = iter(arguments)
        try:
            first = next(options, None)
        except PoptError:
            raise try_help() from None
        if first is None or first.name not in rules.COMMANDS:
            raise try_help()
        self._now = Command(first.name, state=self._daemon_state(first))
        if first.name in ("help", "version"):
            return self._now
        try:
            for option in options:
                self._take(option)
        except PoptError as error:
            raise EndedError(str(error), FAILED, lasting=False) from None
        return self._finished(arguments.left)

    def _daemon_state(self, first: Found) -> str:
        if first.name not in ("start-daemon", "stop-daemon"):
            return ""
        if first.argument not in ("master", "backup"):
            said = "start-daemon parameter" if first.name == "start-daemon" else "start_daemon"
            raise _usage(f"illegal {said} specified")
        return first.argument

    def _take(self, option: Found) -> None:
        if option.name in rules.COMMANDS:
            raise _usage(f"invalid option `{option.word}'")
        subject = rules.SUBJECTS.get(option.name, option.name)
        if subject not in ("sort", "ipv6"):
            if subject in self._now.options:
                raise _usage(f"multiple '{subject}' options specified")
            self._put(options=self._now.options | {subject})
        text = option.argument or ""
        if option.name in NUMBERS:
            self._number(text, NUMBERS[option.name])
        elif option.name in METHODS:
            self._put(method=METHODS[option.name])
        elif option.name == "persistent":
            self._put(persistent=PERSISTENT if option.argument is None else _timeout(text, 1))
        elif option.name in self._readers:
            self._readers[option.name](self, text)

    def _put(self, **changes: Any) -> None:
        self._now = replace(self._now, **changes)

    def _number(self, text: str, kind: _Number) -> None:
        value = number(text, kind.least, kind.most)
        if value is None:
            raise _usage(f"illegal {kind.said} specified")
        if kind.key:
            self._put(**{kind.key: value})

    def _finished(self, left: Sequence[str]) -> Command:
        if self._now.name == "set":
            if len(left) < 3:
                raise _usage("--set option requires 3 timeout values")
            tcp, fin, udp = (_timeout(each, 0) for each in left[:3])
            self._put(timeouts=(tcp, fin, udp))
            left = left[3:]
        if left:
            raise _usage(f"unexpected argument {left[0]}")
        if self._flags:
            self._put(flags=_scheduler_flags(self._now.scheduler, self._flags))
        return self._now

    def _service(self, text: str, protocol: str) -> None:
        found = place(text, protocol, self._names)
        if found is None:
            raise _usage("illegal virtual server address[:port] specified")
        mask = None if found.address.version == 6 else self._now.mask
        self._put(protocol=protocol, address=found.address, port=found.port or 0, mask=mask)

    def _fwmark(self, text: str) -> None:
        mark = number(text, 1, (1 << 32) - 1)
        if mark is None:
            raise _usage(f"invalid fwmark value `{text}' specified")
        self._put(fwmark=mark, protocol="tcp", address=ANY4)

    def _ipv6(self, _: str) -> None:
        if not self._now.fwmark:
            raise _usage("-6 used before -f\n")
        self._put(address=ANY6, mask=None)

    def _mask(self, text: str) -> None:
        if self._now.address is not None and self._now.address.version == 6:
            bits = _leading_number(text)
            if not 1 <= bits <= 128:
                raise _usage("illegal ipv6 netmask specified")
            self._put(mask=bits)
            return
        mask = netmask(text, self._names)
        if mask is None:
            raise _usage("illegal virtual server persistent mask specified")
        bits = int(mask).bit_count()
        is_prefix = bits > 0 and int(mask) == (0xFFFFFFFF << (32 - bits)) & 0xFFFFFFFF
        self._put(mask=bits if is_prefix else None, odd_mask="" if is_prefix else str(mask))

    def _real_server(self, text: str) -> None:
        found = place(text, self._now.protocol, self._names)
        if found is None:
            raise _usage("illegal real server address[:port] specified")
        port = self._now.port if found.port is None else found.port
        self._put(server=found.address, server_port=port)

    def _group(self, text: str) -> None:
        version = 6 if ":" in text else 4
        try:
            group = ip_address(text)
        except ValueError:
            group = None
        if group is None or group.version != version or not group.is_multicast:
            raise _usage(f"invalid IPv{version} mcast-group `{text}'")

    def _tunnel(self, text: str) -> None:
        if text not in rules.TUNNELS:
            raise _usage("illegal tunnel type specified")
        self._put(tunnel=text)

    def _set_flags(self, text: str) -> None:
        self._flags = text[:127]

    _readers: ClassVar[dict[str, Callable[[_Reading, str], None]]] = {
        "tcp-service": lambda self, text: self._service(text, "tcp"),
        "udp-service": lambda self, text: self._service(text, "udp"),
        "sctp-service": lambda self, text: self._service(text, "sctp"),
        "fwmark-service": _fwmark,
        "ipv6": _ipv6,
        "scheduler": lambda self, text: self._put(scheduler=text[:15]),
        "netmask": _mask,
        "real-server": _real_server,
        "ops": lambda self, _: self._put(one_packet=True),
        "pe": lambda self, text: self._put(engine=text[:16]),
        "sched-flags": _set_flags,
        "mcast-group": _group,
        "tun-type": _tunnel,
    }


def _timeout(text: str, least: int) -> int:
    value = number(text, least, LONGEST)
    if value is None:
        raise _usage(f"invalid timeout value `{text}' specified")
    return value


def _leading_number(text: str) -> int:
    """As atoi(3) takes it: what is behind the digits does not count."""
    text = text.lstrip()
    sign, digits = (text[:1], text[1:]) if text[:1] in ("+", "-") else ("", text)
    end = next((place for place, each in enumerate(digits) if each not in "0123456789"), len(digits))
    value = int(digits[:end] or "0")
    return -value if sign == "-" else value


def _scheduler_flags(scheduler: str, text: str) -> tuple[str, ...]:
    flags = [flag for flag in text.split(",") if flag]
    for flag in flags:
        if flag not in FLAGS and flag not in PLAIN_FLAGS:
            raise _usage(f"invalid scheduler flag `{flag}'")
        if flag in FLAGS and FLAGS[flag] != (scheduler or "wlc"):
            raise _usage(f"incompatible scheduler flag `{flag}'")
    return tuple(dict.fromkeys(flags))


def _check_options(command: Command) -> None:
    name = command.name
    said = rules.SAID.get(name, name)
    required, exclusive = rules.REQUIRED.get(name, set()), rules.EXCLUSIVE.get(name, set())
    allowed = rules.ALLOWED.get(name, set())
    one = ""
    for subject in rules.ORDER:
        if subject not in command.options:
            if subject in required:
                raise _usage(f"You need to supply the '{subject}' option for the '{said}' command")
        elif subject in exclusive:
            if one:
                raise _usage(
                    f"The option '{subject}' conflicts with the '{one}' option in the '{said}' command"
                )
            one = subject
        elif subject not in allowed and subject not in required:
            raise _usage(f"Illegal '{subject}' option with the '{said}' command")


def _service_checked(command: Command) -> Command:
    if not command.fwmark and not command.port and not command.persistent:
        raise _usage("Zero port specified for non-persistent service")
    if command.one_packet and not command.fwmark and command.protocol != "udp":
        raise _usage("One-Packet Scheduling is only for UDP virtual services")
    return replace(command, scheduler=command.scheduler or "wlc")


def _server_checked(command: Command) -> Command:
    """With direct routing and tunnels a server has the port of its service, whatever was said."""
    if not command.fwmark and command.method != "m":
        command = replace(command, server_port=command.port)
    assert command.address is not None
    assert command.server is not None
    if command.address.version != command.server.version and command.method != "i":
        raise _usage("Different address family is allowed only for tunneling servers")
    tunnel = command.options & {"tun-type", *rules.TUNNEL_OPTIONS}
    if tunnel and command.method != "i":
        raise _usage("Tunnel options conflict with forward method")
    _check_tunnel(command.tunnel, command.options)
    return command


def _check_tunnel(kind: str, options: Collection[str]) -> None:
    required, exclusive = rules.TUNNELS[kind]
    one = ""
    for name in rules.TUNNEL_OPTIONS:
        if name not in options:
            if name in required:
                raise _usage(f"You need to supply the '{name}' option for the '{kind}' tunnel type")
        elif name in exclusive:
            if one:
                raise _usage(
                    f"The option '{name}' conflicts with the '{one}' option in the '{kind}' tunnel type"
                )
            one = name
        elif name not in required:
            raise _usage(f"Illegal '{name}' option with the '{kind}' tunnel type")


def _check_list(options: Collection[str]) -> None:
    other = {"connection", "timeout", "daemon"} & set(options)
    shown = {"stats", "rate", "thresholds"} & set(options)
    if (other and shown) or (other - {"connection"} and "persistent-conn" in options):
        raise _usage("options conflicts in the list command")


def is_unicast(address: Address) -> bool:
    """Whether IPVS takes it for a server, as far as the address alone can tell."""
    if isinstance(address, IPv4Address):
        return not (address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255")
    return not (address.is_multicast or address.is_unspecified or address.is_link_local)
