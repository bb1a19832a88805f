# SPDX-License-Identifier: Apache-2.0
"""Keeps the packet program attached to its interfaces; reports interfaces without a carrier or with losses.

A program that was detached, or lost because its interface was recreated, is attached again with the maps in use;
another program is never replaced. Knows nothing of what the program does.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

from xdpdirector.control.events import Events
from xdpdirector.errors import DirectorError
from xdpdirector.loader import attachment
from xdpdirector.loader.attachment import Attachment, Mode
from xdpdirector.net import interfaces
from xdpdirector.net.interfaces import Interface
from xdpdirector.net.netlink import Requests
from xdpdirector.net.tx_losses import Losses
from xdpdirector.paths import InstancePaths
from xdpdirector.system.background_tasks import BackgroundTasks

LOOKS_APART = 1.0  # seconds

log = logging.getLogger(__name__)


class CarrierTable(Protocol):
    """What the director needs; `AttachKeeper` and `FakeCarriers` are both one."""

    def problems(self) -> list[str]:
        """A sentence for each thing that keeps packets from reaching the program or from leaving."""

    def transmit_errors(self) -> Mapping[str, int]:
        """See `Losses.counts`."""


class AttachKeeper:
    """Keeps the program of this instance attached to the interfaces `names`, in this mode."""

    def __init__(
        self,
        paths: InstancePaths,
        names: Sequence[str],
        mode: Mode,
        events: Events,
        tasks: BackgroundTasks | None = None,
        on_attached: Callable[[], None] = lambda: None,
    ) -> None:
        """`on_attached` is called when the program was attached to an interface again."""
        self._tasks, self._on_attached = tasks or BackgroundTasks(), on_attached
        self._indices: dict[str, int] = {}
        self._macs: dict[str, bytes] = {}
        self._renewed: set[str] = set()
        self._news = asyncio.Event()
        self._paths, self._names, self._mode, self._events = paths, names, mode, events
        self._refusals: dict[str, str] = {}
        self._losses = Losses()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start to attach the program where it is missing. It must have been attached before."""
        self._task = self._tasks.start("the watch over attached programs", self._keep)

    async def close(self) -> None:
        if self._task:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def see(self, links: Collection[Interface]) -> None:
        """The interfaces of this host have changed to these: look for missing programs at once."""
        present = {link.name: link.index for link in links}
        for name in self._names:
            if name in self._indices and self._indices[name] != present.get(name):
                self._renewed.add(name)
        self._indices |= {name: present.get(name, 0) for name in self._names}
        for link in links:
            if link.name in self._names and link.mac:
                self._see_mac(link.name, link.mac)
        self._news.set()

    def _see_mac(self, name: str, mac: bytes) -> None:
        before, self._macs[name] = self._macs.get(name, mac), mac
        if mac != before:
            text = (
                f"interface {name} has the MAC {mac.hex(':')} now, before {before.hex(':')}: it is announced"
            )
            self._events.publish("network.mac-changed", name, text, mac=mac.hex(":"), before=before.hex(":"))

    def problems(self) -> list[str]:
        try:
            with Requests() as requests:
                links = {link.name: link for link in interfaces.everything(requests)}
            bare = self._bare()
        except (OSError, DirectorError) as error:
            return [f"the interfaces cannot be listed: {error}"]
        faults = [_fault(name, links) for name in self._names]
        return [
            *filter(None, faults),
            *(self._without(name) for name in bare if name in links),
            *self._losses.problems(),
        ]

    def transmit_errors(self) -> Mapping[str, int]:
        return self._losses.counts()

    def _bare(self) -> list[str]:
        """Those that do not carry the program."""
        carrying = {found.interface for found in attachment.attachments(self._paths)}
        return [name for name in self._names if name not in carrying]

    def _without(self, name: str) -> str:
        return self._refusals.get(name, f"interface {name} does not carry the packet program: it will soon")

    async def _keep(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._news.wait(), LOOKS_APART)
            self._news.clear()
            try:
                bare = self._bare()
                self._refusals = {name: why for name, why in self._refusals.items() if name in bare}
                for name in bare:
                    await self._put_back(name)
                self._renewed &= set(bare)
                await asyncio.to_thread(self._look_for_losses)
            except (OSError, DirectorError) as error:
                log.warning("the attached programs cannot be listed: %s", error)

    def _look_for_losses(self) -> None:
        carrying = {found.interface: found.mode for found in attachment.attachments(self._paths)}
        modes = {name: mode for name, mode in carrying.items() if name in self._names}
        self._losses.look(modes, time.monotonic())

    async def _put_back(self, name: str) -> None:
        """In a thread: another loader may be at work for a while, and is waited for."""
        attaching = asyncio.create_task(asyncio.to_thread(attachment.attach, self._paths, [name], self._mode))
        try:
            [done] = await asyncio.shield(attaching)
        except DirectorError as error:
            self._refuse(name, f"interface {name} does not carry the packet program: {error.detail}")
        else:
            self._publish_attached(done)
        finally:
            await asyncio.wait([attaching])  # also when cancelled: the thread goes on until it is done

    def _refuse(self, name: str, why: str) -> None:
        if self._refusals.get(name) != why:
            log.warning("%s", why)
        self._refusals[name] = why

    def _publish_attached(self, done: Attachment) -> None:
        self._refusals.pop(done.interface, None)
        self._on_attached()
        why = (
            "was deleted and made anew" if done.interface in self._renewed else "had lost the packet program"
        )
        self._renewed.discard(done.interface)
        self._events.publish(
            "dataplane.reattached",
            done.interface,
            f"interface {done.interface} {why}: program {done.program_id} is on it again, {done.mode} mode, and "
            "VIPs come there after it",
            program_id=done.program_id,
            mode=done.mode,
        )


def _fault(name: str, links: Mapping[str, Interface]) -> str:
    """What is wrong with the interface itself; empty when nothing is."""
    if name not in links:
        return f"interface {name} does not exist any more; there are: {', '.join(sorted(links))}"
    if fault := interfaces.port_fault(links[name], links.values()):
        return fault
    if not links[name].up:
        return (
            f"interface {name} is down or has no carrier, so that no packet reaches this director: look at its "
            f"cable and at the switch's port, or `ip link set {name} up`"
        )
    return ""
