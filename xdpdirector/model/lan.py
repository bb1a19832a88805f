# SPDX-License-Identifier: Apache-2.0
"""How the director looks after its network, as an operator may wish it. Knows no sockets."""

from __future__ import annotations

from xdpdirector.model.fields import (
    DayAtMost,
    Flag,
    Frozen,
    Timeout,
    key,
)


class LanSpec(Frozen):
    """Every `interval`, or as long as it takes at a hundred questions a second, each VIP and each backend is asked.
    `probe: false`: nothing is sent; what the neighbour table says is still looked at. `grace`: for how long frames
    still go to the last MAC of a backend when the director itself lost an address, a route or its carrier."""

    interval: Timeout = key(
        10.0, "How often each VIP and each backend is asked for on the network, at least."
    )
    probe: Flag = key(
        True, "Whether anything is sent to ask; what the neighbour table says is looked at anyway."
    )
    grace: DayAtMost = key(
        10.0,
        "How long frames go to the last MAC of a backend after the director itself lost an address, a route or its "
        "carrier.",
    )
    arp_ignore: Flag = key(
        True,
        "Whether interfaces that do not carry the packet program are kept from answering ARP for VIPs "
        "(`arp_ignore` 1, `arp_announce` 2), while there are some; with `vips: manage` only.",
    )
