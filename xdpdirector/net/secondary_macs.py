# SPDX-License-Identifier: Apache-2.0
"""Secondary unicast MACs of interfaces: MACs besides its own for which an interface accepts frames.

They belong to devices on the interface in other network namespaces, such as containers on macvlans. A frame
for such a MAC is for that container, even if it has a VIP, as a backend of another director does. Does not
know who writes them to the maps.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Set
from socket import AF_BRIDGE

from pyroute2.netlink.rtnl import RTM_GETNEIGH
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from xdpdirector.errors import DirectorError
from xdpdirector.net import interfaces
from xdpdirector.net.interfaces import mac_bytes
from xdpdirector.net.netlink import Requests
from xdpdirector.system.background_tasks import BackgroundTasks

NTF_SELF = 2  # linux/neighbour.h: an entry of the device itself, not of the bridge that it is a port of
LOOKS_APART = 5.0  # seconds; the kernel sends no events

log = logging.getLogger(__name__)


class SecondaryMacs:
    """Polls the interfaces of these names and reports their secondary MACs."""

    def __init__(
        self, names: Collection[str], tell: Callable[[Set[bytes]], None], tasks: BackgroundTasks
    ) -> None:
        self._names, self._tell, self._tasks = frozenset(names), tell, tasks
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = self._tasks.start("the look at secondary MACs", self._follow)

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        while True:
            try:
                with Requests() as requests:
                    links = interfaces.everything(requests)
                    self._tell(read(requests, [link.index for link in links if link.name in self._names]))
            except (OSError, DirectorError) as error:  # retried at the next poll
                log.warning("the secondary MACs cannot be read: %s", error)
            await asyncio.sleep(LOOKS_APART)


def read(requests: Requests, indices: Collection[int]) -> set[bytes]:
    """The secondary MACs of the interfaces with these indices."""
    found = set()
    for index in indices:
        request = ndmsg()
        request["family"], request["ifindex"] = AF_BRIDGE, index
        for entry in requests.dump(RTM_GETNEIGH, request):
            mac = mac_bytes(entry.get_attr("NDA_LLADDR"))
            if entry["ifindex"] == index and entry["flags"] & NTF_SELF and mac and not mac[0] & 1:
                found.add(mac)
    return found
