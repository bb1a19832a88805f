# SPDX-License-Identifier: Apache-2.0
"""Interfaces that lose frames forwarded by the packet program: from driver statistics, and for a veth in
native mode from the configuration of its peer. Polled by the caller, who passes the time in monotonic
seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from xdpdirector.net import driver_stats, veth_peer

PEERS_APART = 10.0  # seconds between two checks of peers
LASTS = 10.0  # seconds without a loss until it is no longer reported


@dataclass
class _Seen:
    """The driver's counter at the last poll, and when it last increased."""

    count: int
    grew: float | None = None


class Losses:
    """`count`: see `driver_stats.of`; `fault`: see `veth_peer.fault`."""

    def __init__(
        self,
        count: Callable[[Iterable[str]], Mapping[str, int]] = driver_stats.of,
        fault: Callable[[str], str] = veth_peer.fault,
    ) -> None:
        self._count, self._fault = count, fault
        self._seen: dict[str, _Seen] = {}
        self._faults: dict[str, str] = {}
        self._next_peers = 0.0
        self._modes: dict[str, str] = {}

    def look(self, modes: Mapping[str, str], now: float) -> None:
        """Poll. `modes`: by interface with the program. Takes milliseconds with many network namespaces: not
        for an event loop."""
        counts = self._count(modes)
        self._seen = {name: seen for name, seen in self._seen.items() if name in counts}
        for name, count in counts.items():
            seen = self._seen.get(name)
            if seen is None or count < seen.count:  # the interface was recreated
                self._seen[name] = _Seen(count)
            elif count > seen.count:
                seen.count, seen.grew = count, now
            elif seen.grew is not None and now - seen.grew > LASTS:
                self._seen[name] = _Seen(count)
        if now >= self._next_peers or modes != self._modes:
            self._next_peers, self._modes = now + PEERS_APART, dict(modes)
            found = {name: self._fault(name) for name, mode in modes.items() if mode == "native"}
            self._faults = {name: why for name, why in found.items() if why and why != veth_peer.UNSEEN}

    def counts(self) -> dict[str, int]:
        """Frames that could not be transmitted, by interface, where the driver counts them."""
        return {name: seen.count for name, seen in self._seen.items()}

    def problems(self) -> list[str]:
        """One sentence for each interface with losses."""
        return [
            *(
                f"interface {name} is a veth in native mode and loses what is sent on: {why}. Remedy: "
                f"{veth_peer.remedy(name)}"
                for name, why in self._faults.items()
            ),
            *(
                f"interface {name} loses what is sent on: its driver counts frames that XDP could not transmit "
                f"(`ethtool -S {name}`). {self._advice(name)}"
                for name, seen in self._seen.items()
                if seen.grew is not None and name not in self._faults
            ),
        ]

    def _advice(self, name: str) -> str:
        if self._modes.get(name) == "native":
            return (
                "Its transmit queues are full or too few (`ethtool -L`, `ethtool -G`), or the driver cannot do it: "
                f"on a veth, {veth_peer.remedy(name)}"
            )
        return "Its transmit queues are full, or a frame is larger than the MTU of where it leaves"
