# SPDX-License-Identifier: Apache-2.0
"""keepalived.conf for a pair: the VIPs stand on the director that is ready and has the higher priority (RFC 5798).

A director that is not ready, because its peers' connections have not come yet or its data plane is not as wanted,
gives way after half a minute: keepalived asks it once a second. A daemon that restarts takes less, also with a
million connections or on a busy machine, and packets do not need it; but connections that begin meanwhile are not
sent to the peers, so that moving the VIPs would lose them. A slow machine needs more `patience`, and is asked less
often: to ask starts a process, which there takes most of a second.

keepalived runs at real-time priority: where advertisements wait for a busy processor, the other director takes the
VIPs for a moment, and connections that it does not have yet are lost. A process of that priority is killed by the
kernel when it runs for longer without waiting than RLIMIT_RTTIME (setrlimit(2)), for which keepalived takes 10 ms:
too little for a slow machine or many VIPs, so it is a second here.

A standby takes the VIPs after three advertisements and (256 - its priority) / 256 of one (RFC 5798, 6.1):
priorities near the highest make that less than a third of a second with ten advertisements a second. A server that
has sent a segment into the gap sends it again after 0.2 to 0.3 s, and then only after twice that time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from xdpdirector.errors import InvalidRequestError
from xdpdirector.ha.words import require_plain
from xdpdirector.model.listener import Address

NAME = "xdpdirector"
ASKED, UNANSWERED = 30, 10
"""How many answers that say "not ready", resp. how many missing ones in a row, fit in the time of patience."""
PRIORITIES = (250, 240)
"""Of the director that is to have the VIPs, and of the other one."""


@dataclass(frozen=True)
class Vrrp:
    """One router of a VRRP group.

    `interface`: where the VIPs stand and the advertisements go. `own`, `peers`: this director's addresses there and
    the others', for unicast advertisements; without peers they are multicast. `router_id`: the group's, the same on
    all directors and of no other group on the LAN. `advert`: seconds between two advertisements. `ready`: the
    command that asks the director; `patience`: seconds that it may be not ready before it gives way."""

    vips: Sequence[Address]
    interface: str
    ready: str
    own: Sequence[Address] = ()
    peers: Sequence[Address] = ()
    router_id: int = 51
    priority: int = PRIORITIES[1]
    advert: float = 1.0
    patience: int = 30


def render(vrrp: Vrrp) -> str:
    """The whole file. InvalidRequestError when there is no VIP, or a number is out of VRRP's range."""
    require_plain(vrrp.interface, (*vrrp.vips, *vrrp.own, *vrrp.peers))
    if not vrrp.vips:
        raise InvalidRequestError("no service has a listener, so there is no VIP that keepalived could move")
    if not 1 <= vrrp.router_id <= 254:
        raise InvalidRequestError(f"a virtual router id of {vrrp.router_id} does not exist: use 1 to 254")
    if not 1 <= vrrp.priority <= 254:
        raise InvalidRequestError(f"a priority of {vrrp.priority} does not exist: use 1 to 254")
    return "\n".join([_GLOBAL, _script(vrrp), _instance(vrrp)])


_GLOBAL = """\
# VRRP for XDP Director, version 3 (RFC 5798). Written by `xdpdirector keepalived-config`.
global_defs {
    enable_script_security
    script_user root
    vrrp_version 3
    vrrp_garp_master_repeat 3
    vrrp_garp_master_refresh 30
    vrrp_rt_priority 50
    vrrp_rlimit_rttime 1000000
}
"""


def _script(vrrp: Vrrp) -> str:
    """Asked about as often in the time of patience, however long that is."""
    interval, timeout = max(1, vrrp.patience // ASKED), max(3, vrrp.patience // UNANSWERED)
    return f"""\
vrrp_script {NAME}_ready {{
    script "{vrrp.ready}"
    interval {interval}
    timeout {timeout}
    rise 2
    fall {-(-vrrp.patience // interval)}
}}
"""


def _instance(vrrp: Vrrp) -> str:
    """One instance for both families, so that they move together: a client of either finds its connections on one
    director. Advertisements are of IPv4 where there is an IPv4 VIP; VRRP does not mix them in one packet."""
    family = min(vip.version for vip in vrrp.vips)
    own, peers = ([each for each in some if each.version == family] for some in (vrrp.own, vrrp.peers))
    unicast = ""
    if own and peers:
        unicast = f"    unicast_src_ip {own[0]}\n" + _block("unicast_peer", map(str, peers))
    advertised, others = (
        [vip for vip in vrrp.vips if (vip.version == family) is same] for same in (True, False)
    )
    advert = f"{vrrp.advert:.2f}".rstrip("0").rstrip(".")
    return (
        f"vrrp_instance {NAME} {{\n"
        f"    state BACKUP\n"
        f"    interface {vrrp.interface}\n"
        f"    virtual_router_id {vrrp.router_id}\n"
        f"    priority {vrrp.priority}\n"
        f"    advert_int {advert}\n"
        f"{unicast}"
        f"{_addresses('virtual_ipaddress', advertised, vrrp.interface)}"
        f"{_addresses('virtual_ipaddress_excluded', others, vrrp.interface)}"
        f"{_block('track_script', [f'{NAME}_ready'])}"
        "}\n"
    )


def _addresses(name: str, vips: Sequence[Address], interface: str) -> str:
    return _block(name, (f"{vip}/{vip.max_prefixlen} dev {interface}" for vip in vips)) if vips else ""


def _block(name: str, lines: Iterable[str]) -> str:
    inside = "".join(f"        {line}\n" for line in lines)
    return f"    {name} {{\n{inside}    }}\n"
