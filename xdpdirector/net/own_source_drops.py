# SPDX-License-Identifier: Apache-2.0
"""Whether this host drops forwarded packets whose source is one of its own addresses. Replies of backends
that use it as their gateway are such packets: their source is the VIP, and if this host has the VIP, the
kernel drops them as martians.

It forwards them with `accept_local` 1 and without a strict `rp_filter`
(Documentation/networking/ip-sysctl.rst). IPv6 has no such rule.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path

ROOT = Path("/proc/sys/net/ipv4")
STRICT = 1

Read = Callable[[Path], int | None]


def number(path: Path) -> int | None:
    """A sysctl of this thread's network namespace; None if the kernel does not have it."""
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None


def dropping(interfaces: Iterable[str], read: Read = number) -> dict[str, str]:
    """The interfaces that drop such packets, with the settings that show it; none on a host that does not
    forward."""
    if not read(ROOT / "ip_forward"):
        return {}
    found = {}
    for name in interfaces:
        accepts, filters = (
            max(read(ROOT / "conf" / each / setting) or 0 for each in ("all", name))
            for setting in ("accept_local", "rp_filter")
        )
        if not accepts or filters == STRICT:
            found[name] = (
                f"{ROOT}: ip_forward is 1; of {name}, accept_local is {accepts}, rp_filter {filters}"
            )
    return found


def sentence(interface: str) -> str:
    return (
        f"replies of backends that have this host as their gateway are dropped at {interface}: they come from a "
        "VIP, which is this host's own address (a martian source)"
    )


def remedy(interface: str) -> str:
    settings = f"net.ipv4.conf.{interface.replace('.', '/')}"
    return (
        f"if it is their gateway: `sysctl -w {settings}.accept_local=1 {settings}.rp_filter=2` (and in "
        "/etc/sysctl.d); or give the backends another gateway; or `vips: external` without the VIPs on this host, "
        "and route them to it"
    )
