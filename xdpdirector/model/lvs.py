# SPDX-License-Identifier: Apache-2.0
"""What an operator may say for the commands of Linux Virtual Server. Knows listeners; nothing of services."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, WithJsonSchema, model_validator

from xdpdirector.model.fields import NUMBER, ByName, Frozen, InterfaceName, ListenerField, key
from xdpdirector.model.listener import Listener

HIGHEST_MARK = (1 << 32) - 1

Mark = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,9}$")]
Marked = Annotated[tuple[ListenerField, ...], Field(min_length=1, max_length=256)]


def _multicast(value: object) -> IPv4Address | IPv6Address:
    if isinstance(value, IPv4Address | IPv6Address):
        return value
    try:
        address = ip_address(str(value))
    except ValueError:
        raise ValueError(f"'{value}' is not an IPv4 or IPv6 address") from None
    if not address.is_multicast:
        raise ValueError(f"{address} is no multicast address")
    return address


MulticastGroup = Annotated[
    IPv4Address | IPv6Address,
    BeforeValidator(_multicast),
    PlainSerializer(str, return_type=str),
    WithJsonSchema({"type": "string", "anyOf": [{"format": "ipv4"}, {"format": "ipv6"}]}),
]


class LvsSyncSpec(Frozen):
    """The sync protocol of IPVS, as `ipvsadm --start-daemon` has it. As `backup` this director takes in the
    connections of an LVS director, as `master` it sends its own. Nothing proves who sends: whoever reaches the
    interface can say which backend a connection has, as with LVS."""

    role: Literal["backup", "master", "both"] = Field(
        description="Take connections of an LVS director in (`backup`), send it ours (`master`), or both."
    )
    interface: InterfaceName = Field(description="The only interface that datagrams come in and go out by.")
    syncid: Annotated[int, Field(ge=0, le=255), NUMBER] = key(
        0, "As `--syncid`: it is sent, and others are ignored; 0 takes all."
    )
    group: MulticastGroup = key(IPv4Address("224.0.0.81"), "As `--mcast-group`: the multicast group.")
    port: Annotated[int, Field(ge=1, le=65535), NUMBER] = key(8848, "As `--mcast-port`: the UDP port.")
    version: Annotated[int, Field(ge=0, le=1), NUMBER] = key(
        1, "Of the protocol, for what is sent; 0 for kernels before 2.6.39, has no IPv6. Both are understood."
    )

    @property
    def receives(self) -> bool:
        return self.role != "master"

    @property
    def sends(self) -> bool:
        return self.role != "backup"


class LvsSpec(Frozen):
    """`fwmarks`: the listeners that a firewall mark stands for in `xdpdirector ipvsadm -f MARK`. Packets have no
    mark where this director sees them; for IPVS, rules of iptables or nft give it to them."""

    fwmarks: Annotated[dict[Mark, Marked], Field(max_length=4096), ByName()] = Field(
        default_factory=dict,
        description="The listeners that a firewall mark stands for, by the mark as a decimal number.",
    )

    sync: LvsSyncSpec | None = key(
        None, "Exchange of connections with LVS directors by their own protocol; by default there is none."
    )

    @model_validator(mode="after")
    def _marks_differ(self) -> Self:
        owners: dict[Listener, str] = {}
        for mark, listeners in self.fwmarks.items():
            if int(mark) > HIGHEST_MARK:
                raise ValueError(f"firewall mark {mark} is out of range: use 1 to {HIGHEST_MARK}")
            for listener in listeners:
                other = owners.setdefault(listener, mark)
                if other != mark:
                    raise ValueError(f"listener {listener} stands in the firewall marks {other} and {mark}")
        return self
