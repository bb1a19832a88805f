# SPDX-License-Identifier: Apache-2.0
"""What ipvsadm writes, to the column: tables, rules, connections. Pure but for the names it asks for.

The widths are those of ipvsadm 1.31, the order of entries is that of its comparison and of glibc's qsort(3): the
comparison subtracts 32-bit numbers, so it is no order, and what comes out depends on how it is asked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from xdpdirector.lvs.names import Names, written
from xdpdirector.lvs.virtual import NUMBERS, Counters, Destination, Rates, Virtual
from xdpdirector.model.listener import Address
from xdpdirector.model.lvs import LvsSyncSpec
from xdpdirector.net.mtu import ETHERNET_MTU

Item = TypeVar("Item")
IPV4_SERVICE, IPV4_SERVER = 33, 28
"""Columns: what is longer is cut off, but for IPv6."""
HEADING = "IP Virtual Server version 1.2.1 (size={size})"
LONGEST_PACKET = 65535
SYNC_TTL = 1
"""Multicast of the sync protocol does not leave the LAN."""
RULE_OPTIONS = {"tcp": "-t", "udp": "-u", "sctp": "--sctp-service"}


@dataclass(frozen=True)
class Format:
    """What is shown of the table. `names` is None for numbers."""

    names: Names | None = None
    stats: bool = False
    rate: bool = False
    thresholds: bool = False
    persistent_conn: bool = False
    tun_info: bool = False
    exact: bool = False
    sort: bool = True


class Connection(NamedTuple):
    """`expires`: seconds until it is forgotten."""

    protocol: str
    state: str
    client: Address
    client_port: int
    vip: Address
    port: int
    destination: Address
    expires: int


def table(virtuals: Sequence[Virtual], shown: Format) -> Iterator[str]:
    """The title and all entries, in ipvsadm's order."""
    yield from _title(shown)
    for virtual in in_order(virtuals) if shown.sort else virtuals:
        yield from _entry(virtual, shown)


def rules(virtuals: Sequence[Virtual], names: Names | None) -> Iterator[str]:
    """What `-R` reads."""
    for virtual in in_order(virtuals):
        name = _rule_name(virtual, names)
        yield f"-A {name} -s {virtual.scheduler}{_rule_options(virtual)}"
        for each in _servers(virtual):
            server = written(each.address, each.port, virtual.key.protocol, names)
            yield f"-a {name} -r {server} {_METHODS[each.forward]}{_tunnel_options(each)} -w {each.weight}"


def connections(found: Sequence[Connection], names: Names | None, *, persistent: bool) -> Iterator[str]:
    yield "IPVS connection entries"
    if persistent:
        yield (
            f"pro expire {'state':<11} {'source':<18} {'virtual':<18} {'destination':<18} {'pe name':<16} pe_data"
        )
    else:
        yield f"pro expire {'state':<11} {'source':<18} {'virtual':<18} destination"
    for each in found:
        expires = f"{each.expires // 60:02d}:{each.expires % 60:02d}"
        client, virtual, server = (
            written(address, port, each.protocol, names)
            for address, port in (
                (each.client, each.client_port),
                (each.vip, each.port),
                (each.destination, each.port),
            )
        )
        yield f"{each.protocol.upper():<3} {expires:<6} {each.state:<11} {client:<18} {virtual:<18} {server}"


def sync_daemon(state: str, spec: LvsSyncSpec, mtu: int) -> str:
    """A line of `-L --daemon`. A master of IPVS fills datagrams as for an MTU of 1500, a backup takes in what its
    interface does, when none says otherwise."""
    taken = min(max(mtu, ETHERNET_MTU), LONGEST_PACKET) if state == "backup" else ETHERNET_MTU
    headers = 28 if spec.group.version == 4 else 48  # of IP and UDP
    return (
        f"{state} sync daemon (mcast={spec.interface}, syncid={spec.syncid}, maxlen={taken - headers}, "
        f"group={spec.group}, port={spec.port}, ttl={SYNC_TTL})"
    )


def in_order(virtuals: Sequence[Virtual]) -> list[Virtual]:
    return _sorted(list(virtuals), _compare_services)


def _compare_services(one: Virtual, other: Virtual) -> int:
    differences = [
        one.key.fwmark - other.key.fwmark,
        (10 if one.key.is_ipv6 else 2) - (10 if other.key.is_ipv6 else 2),
        NUMBERS.get(one.key.protocol, 0) - NUMBERS.get(other.key.protocol, 0),
        *_differences(one.key.address, other.key.address),
        one.key.port - other.key.port,
    ]
    return next((signed for each in differences if (signed := _signed(each))), 0)


def _compare_servers(one: Destination, other: Destination) -> int:
    differences = [*_differences(one.address, other.address), one.port - other.port]
    return next((signed for each in differences if (signed := _signed(each))), 0)


def _differences(one: Address, other: Address) -> Iterator[int]:
    """Word by word of 32 bits."""
    if one.version != other.version:
        return
    for place in range(0, len(one.packed), 4):
        yield int.from_bytes(one.packed[place : place + 4], "big") - int.from_bytes(
            other.packed[place : place + 4], "big"
        )


def _signed(value: int) -> int:
    """As a C int has it."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


def _sorted(items: list[Item], compare: Callable[[Item, Item], int]) -> list[Item]:
    """Merge sort, from halves, the lower first where they are alike."""
    if len(items) < 2:
        return items
    half = len(items) // 2
    left, right = _sorted(items[:half], compare), _sorted(items[half:], compare)
    merged = []
    while left and right:
        merged.append((left if compare(left[0], right[0]) <= 0 else right).pop(0))
    return merged + left + right


def _servers(virtual: Virtual) -> list[Destination]:
    return _sorted(list(virtual.destinations), _compare_servers)


def _title(shown: Format) -> Iterator[str]:
    head = f"{'Prot LocalAddress:Port':<33}"
    below = "  -> RemoteAddress:Port"
    if shown.stats:
        yield head + "".join(f" {each:>8}" for each in ("Conns", "InPkts", "OutPkts", "InBytes", "OutBytes"))
        yield below
    elif shown.rate:
        yield head + "".join(f" {each:>8}" for each in ("CPS", "InPPS", "OutPPS", "InBPS", "OutBPS"))
        yield below
    elif shown.thresholds:
        columns = ("Uthreshold", "Lthreshold", "ActiveConn", "InActConn")
        yield head + "".join(f" {each:<10}" for each in columns)
        yield below
    elif shown.persistent_conn:
        yield f"{head} {'Weight':<9} {'PersistConn':<11} {'ActiveConn':<10} {'InActConn':<10}"
        yield below
    else:
        tunnel = " TunnelInfo   " if shown.tun_info else ""
        yield "Prot LocalAddress:Port Scheduler Flags"
        yield f"{below}           Forward{tunnel} Weight ActiveConn InActConn"


def _entry(virtual: Virtual, shown: Format) -> Iterator[str]:
    name = _name(virtual, shown.names)
    if shown.stats:
        yield f"{name:<33}" + "".join(_large(each, shown) for each in _counted(virtual.counters))
    elif shown.rate:
        yield f"{name:<33}" + "".join(_large(each, shown) for each in _counted(virtual.rates))
    else:
        yield f"{name} {virtual.scheduler}{_options(virtual)}"
    for each in _servers(virtual) if shown.sort else virtual.destinations:
        server = written(each.address, each.port, virtual.key.protocol, shown.names)
        if each.address.version == 4:
            server = server[:IPV4_SERVER]
        yield f"  -> {server:<28}{_columns(each, shown)}"


def _columns(each: Destination, shown: Format) -> str:
    active, inactive = f"{each.active:<10}", f"{each.inactive:<10}"
    if shown.stats:
        return "".join(_large(value, shown) for value in _counted(each.counters))
    if shown.rate:
        plain = f" {each.rates.connections:>8} {each.rates.packets:>8} {0:>8}"
        return plain + _large(each.rates.bytes, shown) + _large(0, shown)
    if shown.thresholds:
        return f" {each.upper:<10} {each.lower:<10} {active} {inactive}"
    if shown.persistent_conn:
        return f" {each.weight:<9} {0:<11} {active} {inactive}"
    tunnel = f" {_tunnel_info(each):<13}" if shown.tun_info else ""
    forward = "Route" if each.forward == "direct" else "Tunnel"
    return f" {forward:<7}{tunnel} {each.weight:<6} {active} {inactive}"


def _tunnel_info(each: Destination) -> str:
    """As ipvsadm's fwd_tun_info(). The checksum of GUE is 0 here."""
    if each.forward == "direct":
        return "n/a"
    return f"gue:{each.tunnel_port}:nocsum" if each.forward == "gue" else each.forward


_METHODS = {"direct": "-g", "ipip": "-i", "gue": "-i"}


def _tunnel_options(each: Destination) -> str:
    return f" --tun-type gue --tun-port {each.tunnel_port} --tun-nocsum" if each.forward == "gue" else ""


def _counted(counted: Counters | Rates) -> tuple[int, int, int, int, int]:
    """With what comes back, of which a director with direct routing sees nothing."""
    return counted.connections, counted.packets, 0, counted.bytes, 0


def _large(value: int, shown: Format) -> str:
    if shown.exact:
        return f"{value:>{max(9, len(str(value)) + 1)}}"
    if value < 100_000_000:
        return f"{value:>9}"
    for below, unit, sign in ((10**9, 10**3, "K"), (10**11, 10**6, "M"), (10**14, 10**9, "G")):
        if value < below:
            return f"{value // unit:>8}{sign}"
    return f"{value // 10**12:>8}T"


def _name(virtual: Virtual, names: Names | None) -> str:
    key = virtual.key
    if key.fwmark:
        return f"FWM  {_signed(key.fwmark)}{' IPv6' if key.is_ipv6 else ''}"
    name = f"{key.protocol.upper():<4} {written(key.address, key.port, key.protocol, names)}"
    return name if key.is_ipv6 else name[:IPV4_SERVICE]


def _options(virtual: Virtual) -> str:
    text = f" ({','.join(virtual.flags)})" if virtual.flags else ""
    if virtual.timeout:
        text += f" persistent {virtual.timeout}"
        text += f" mask {virtual.netmask}" if virtual.netmask else ""
    return text + (" ops" if virtual.one_packet else "")


def _rule_name(virtual: Virtual, names: Names | None) -> str:
    key = virtual.key
    if key.fwmark:
        return f"-f {_signed(key.fwmark)}{' -6' if key.is_ipv6 else ''}"
    return f"{RULE_OPTIONS[key.protocol]} {written(key.address, key.port, key.protocol, names)}"


def _rule_options(virtual: Virtual) -> str:
    text = ""
    if virtual.timeout:
        text += f" -p {virtual.timeout}"
        text += f" -M {virtual.netmask}" if virtual.netmask else ""
    text += " -o" if virtual.one_packet else ""
    return text + (f" -b {','.join(virtual.flags)}" if virtual.flags else "")
