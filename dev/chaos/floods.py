# SPDX-License-Identifier: Apache-2.0
"""Floods and sprays, sent by the client's host in the name of others: the `attacker`, started and waited for."""

from __future__ import annotations

import sys
from typing import Any

from dev.chaos.attacker import SPRAYS
from dev.chaos.lab import FIRST_CLIENT_PORT, World
from dev.chaos.setting import SERVICES
from xdpdirector.lab.topology import VIP4, VIP6

_LONGEST_SPRAY = 60.0  # seconds, on a machine that is slower than the rate


def run_flood(world: World, kind: str, lasts: float, arguments: dict[str, Any]) -> str:
    """Until it has ended; how many packets it sent."""
    topology, size = world.lab.topology, world.options.size
    served = next(each for each in SERVICES if each.name == arguments["service"])
    four = arguments["family"] == 4
    is_spray = kind in SPRAYS
    rate = size.flood * (2 if is_spray else 1)  # a spray is short
    line = [sys.executable, "-m", "dev.chaos.attacker", kind, "eth0"]
    line += [topology.director.mac(), topology.client.mac()]
    line += [str(VIP4 if four else VIP6), str(served.port), str(rate)]
    line += [str(_LONGEST_SPRAY if is_spray else lasts), str(arguments["seed"])]
    if is_spray:
        client = topology.client.ipv4 if four else topology.client.ipv6
        line += [str(client), str(FIRST_CLIENT_PORT), str(FIRST_CLIENT_PORT + size.ports - 1)]
    sent = world.lab.client.run(*line, timeout=_LONGEST_SPRAY + lasts + 30).stdout.strip()
    return f"{sent} packets"
