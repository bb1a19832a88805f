# SPDX-License-Identifier: Apache-2.0
"""ipvsadm's options: how they are written, and which of them a command needs, takes and refuses. Pure tables."""

from __future__ import annotations

from xdpdirector.lvs.popt import Option

COMMANDS = {
    "add-service": "A",
    "edit-service": "E",
    "delete-service": "D",
    "clear": "C",
    "list": "L",
    "zero": "Z",
    "add-server": "a",
    "edit-server": "e",
    "delete-server": "d",
    "set": "",
    "help": "h",
    "version": "v",
    "restore": "R",
    "save": "S",
    "start-daemon": "",
    "stop-daemon": "",
}
"""What may stand first, with its letter. `-l` is `-L`, too."""

TAKING = {
    "start-daemon": "",
    "stop-daemon": "",
    "tcp-service": "t",
    "udp-service": "u",
    "sctp-service": "",
    "fwmark-service": "f",
    "scheduler": "s",
    "persistent": "p",
    "netmask": "M",
    "real-server": "r",
    "weight": "w",
    "u-threshold": "x",
    "l-threshold": "y",
    "mcast-interface": "",
    "syncid": "",
    "pe": "",
    "sched-flags": "b",
    "mcast-group": "",
    "mcast-port": "",
    "mcast-ttl": "",
    "sync-maxlen": "",
    "tun-type": "",
    "tun-port": "",
}
"""With an argument."""

PLAIN = {
    "masquerading": "m",
    "ipip": "i",
    "gatewaying": "g",
    "numeric": "n",
    "connection": "c",
    "timeout": "",
    "daemon": "",
    "stats": "",
    "rate": "",
    "thresholds": "",
    "persistent-conn": "",
    "nosort": "",
    "sort": "",
    "exact": "X",
    "ipv6": "6",
    "ops": "o",
    "tun-info": "",
    "tun-nocsum": "",
    "tun-csum": "",
    "tun-remcsum": "",
}

_ALL = {
    name: (Option(name, takes=name in TAKING, optional=name == "persistent"), letter)
    for name, letter in (COMMANDS | TAKING | PLAIN).items()
}
LONG = {name: option for name, (option, _) in _ALL.items()}
SHORT = {letter: option for option, letter in _ALL.values() if letter} | {"l": LONG["list"]}

SUBJECTS = {
    "tcp-service": "service-address",
    "udp-service": "service-address",
    "sctp-service": "service-address",
    "fwmark-service": "service-address",
    "masquerading": "forwarding-method",
    "ipip": "forwarding-method",
    "gatewaying": "forwarding-method",
}
"""What several options say is said once; others are their own subject."""

ORDER = (
    "numeric",
    "connection",
    "service-address",
    "scheduler",
    "persistent",
    "netmask",
    "real-server",
    "forwarding-method",
    "weight",
    "u-threshold",
    "l-threshold",
    "mcast-interface",
    "timeout",
    "daemon",
    "stats",
    "rate",
    "thresholds",
    "persistent-conn",
    "nosort",
    "syncid",
    "exact",
    "ops",
    "pe",
    "sched-flags",
    "mcast-group",
    "mcast-port",
    "mcast-ttl",
    "sync-maxlen",
    "tun-info",
    "tun-type",
    "tun-port",
    "tun-nocsum",
    "tun-csum",
    "tun-remcsum",
)
"""In which subjects are judged: the first that is at fault is named."""

SAID = {"clear": "flush"}
"""What errors call a command, where that is not its long option."""

_TUNNEL = {"tun-type", "tun-port", "tun-nocsum", "tun-csum", "tun-remcsum"}
_SERVICE = {"scheduler", "persistent", "netmask", "ops", "pe", "sched-flags"}
_SERVER = {"forwarding-method", "weight", "u-threshold", "l-threshold", *_TUNNEL}
_SHOWN = {
    "numeric",
    "stats",
    "rate",
    "thresholds",
    "persistent-conn",
    "nosort",
    "syncid",
    "exact",
    "tun-info",
}

REQUIRED = {command: {"service-address"} for command in ("add-service", "edit-service", "delete-service")} | {
    command: {"service-address", "real-server"} for command in ("add-server", "edit-server", "delete-server")
}
ALLOWED = {
    "add-service": _SERVICE,
    "edit-service": _SERVICE,
    "add-server": _SERVER,
    "edit-server": _SERVER,
    "list": _SHOWN,
    "start-daemon": {"mcast-interface", "syncid", "mcast-group", "mcast-port", "mcast-ttl", "sync-maxlen"},
    "stop-daemon": {"syncid"},
    "save": {"numeric"},
    "zero": {"service-address"},
}
EXCLUSIVE = {"list": {"connection", "service-address", "timeout", "daemon"}}
"""Of these a command takes one."""

TUNNELS = {
    "ipip": (set[str](), set[str]()),
    "gue": ({"tun-port"}, {"tun-nocsum", "tun-csum", "tun-remcsum"}),
    "gre": (set[str](), {"tun-nocsum", "tun-csum"}),
}
"""What a type of tunnel needs, and of what it takes one."""
TUNNEL_OPTIONS = ("tun-port", "tun-nocsum", "tun-csum", "tun-remcsum")
