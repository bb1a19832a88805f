# SPDX-License-Identifier: Apache-2.0
"""How the director looks after its network, as an operator may wish it. Knows no sockets."""

from __future__ import annotations

from xdpdirector.fields import DayAtMost, Flag, Frozen, Timeout


class LanSpec(Frozen):
    """Every `interval`, or as long as it takes at a hundred questions a second, each VIP and each backend is asked.
    `probe: false`: nothing is sent; what the neighbour table says is still looked at. `grace`: for how long frames
    still go to the last MAC of a backend when the director itself lost an address, a route or its carrier."""

    interval: Timeout = 10.0
    probe: Flag = True
    grace: DayAtMost = 10.0
