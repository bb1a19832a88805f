# SPDX-License-Identifier: Apache-2.0
"""Many clients on a lab's one client host: further addresses of it."""

from xdpdirector.lab import Lab
from xdpdirector.lab.topology import FIRST_ARM
from xdpdirector.model import Address

_FIRST_NUMBER = 101


def sources(lab: Lab, vip: Address, count: int) -> list[str]:
    """Addresses of so many clients, of the VIP's family; the host has them from now on."""
    net, bits = (f"{FIRST_ARM.net4}.", 24) if vip.version == 4 else (f"{FIRST_ARM.net6}::", 64)
    addresses = [f"{net}{_FIRST_NUMBER + number}" for number in range(count)]
    lines = [f"addr replace {address}/{bits} dev eth0 {'nodad' * (bits == 64)}\n" for address in addresses]
    lab.client.run("ip", "-batch", "-", text="".join(lines))
    return addresses
