# SPDX-License-Identifier: Apache-2.0
"""Frames that an interface's driver could not transmit for XDP, from its statistics (`ethtool -S`). Reads
only.

Drivers use different names: veth counts rx_queue_0_xdp_tx_errors and tx_queue_0_xdp_xmit_errors, virtio_net
tx0_xdp_tx_drops, mlx5 rx_xdp_tx_full and rx_xdp_tx_err, mvneta rx_xdp_tx_errors ... Frames that an XDP
program dropped on purpose (xdp_drops) are not counted.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping

from pyroute2.ethtool.ioctl import EthtoolError, IoctlEthtool

LOST = re.compile(r"xdp_((tx|xmit|redirect)_?\w*?)?_?(err|full|fail)|xdp_(tx|xmit|redirect)_?\w*?drop")


def lost(statistics: Iterable[tuple[str, int]]) -> int | None:
    """Frames that could not be transmitted; None if the driver has no statistics of XDP."""
    found = [count for name, count in statistics if LOST.search(name)]
    return sum(found) if found else None


def of(interfaces: Iterable[str]) -> Mapping[str, int]:
    """By interface, without those whose driver has no statistics of XDP."""
    found = {name: lost(_statistics(name)) for name in interfaces}
    return {name: count for name, count in found.items() if count is not None}


def _statistics(name: str) -> list[tuple[str, int]]:
    with contextlib.suppress(OSError, EthtoolError), contextlib.closing(IoctlEthtool(name)) as tool:
        return [(str(each), int(count)) for each, count in tool.get_statistics()]
    return []
