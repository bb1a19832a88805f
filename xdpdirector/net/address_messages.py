# SPDX-License-Identifier: Apache-2.0
"""rtnetlink messages that add and remove a VIP: /32 or /128, marked as ours."""

from __future__ import annotations

import socket

from pyroute2.netlink.rtnl.ifaddrmsg import IFA_F_NODAD, ifaddrmsg

from xdpdirector.model import Address
from xdpdirector.net.netlink import Message

PROTOCOL = 0xD1  # IFA_PROTO: values below 4 are the kernel's own
FOREVER = 0xFFFFFFFF


def removal(address: Address, index: int) -> Message:
    """For RTM_DELADDR."""
    request = ifaddrmsg()
    request["family"] = socket.AF_INET if address.version == 4 else socket.AF_INET6
    request["prefixlen"], request["index"] = address.max_prefixlen, index
    request["attrs"] = [("IFA_LOCAL", str(address)), ("IFA_ADDRESS", str(address))]
    return request


def addition(address: Address, index: int, valid: int = FOREVER) -> Message:
    """For RTM_NEWADDR; the kernel removes the address after `valid` seconds.

    IPv6 addresses are deprecated from the start: valid as a destination, but never chosen as source of the
    director's own traffic (RFC 6724, rule 3), which a backend with the VIP on its loopback could not answer.
    """
    request = removal(address, index)
    request["attrs"].append(("IFA_PROTO", PROTOCOL))
    if address.version == 6:
        request["flags"] = IFA_F_NODAD
    if address.version == 6 or valid != FOREVER:
        preferred = 0 if address.version == 6 else valid
        lifetime = {"ifa_preferred": preferred, "ifa_valid": valid, "cstamp": 0, "tstamp": 0}
        request["attrs"].append(("IFA_CACHEINFO", lifetime))
    return request
