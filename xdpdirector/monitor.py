# SPDX-License-Identifier: Apache-2.0
"""Runs the health checks: one asyncio task for each, on the loop that `set` is called on.

Announces transitions only. Knows probes, clocks and tasks; must not know services, maps, or what a verdict is
good for.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from xdpdirector.checks import CheckFailed, CheckImpossible, Probe, registry
from xdpdirector.checkspec import CheckSpec
from xdpdirector.health import Health, HealthReport
from xdpdirector.model import Address
from xdpdirector.views import Operational

Key = tuple[str, str]
OnChange = Callable[[Key, Operational, str], None]

START_SPREAD = 0.1
# Checks of one age drift apart by starting up to this part of the interval early, never late: a dead backend is
# known to be down after fall x interval + timeout.
EARLY = 0.1
AT_ONCE = 256

_log = logging.getLogger(__name__)


@dataclass(eq=False)
class _Watch:
    """One check. `trouble` says why the last try could not be made at all; then the verdict so far stands."""

    key: Key
    spec: CheckSpec
    address: Address
    port: int
    health: Health
    trouble: str = ""

    def is_of(self, address: Address, port: int) -> bool:
        return (self.address, self.port) == (address, port)


class Monitor:
    """The running checks. `on_change` gets the key, `up` or `down`, and the failure's sentence (`up`: empty).

    It is called on the loop, never for a check that was removed, and its own errors are logged and ignored.
    """

    def __init__(self, on_change: OnChange, *, probe: Probe = registry.probe, at_once: int = AT_ONCE) -> None:
        self._on_change, self._probe = on_change, probe
        self._slots = asyncio.Semaphore(at_once)
        self._watches: dict[Key, _Watch] = {}
        self._tasks: dict[Key, asyncio.Task[None]] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._made = time.time()

    def set(
        self, key: Key, spec: CheckSpec, address: Address, port: int, earlier: HealthReport | None = None
    ) -> None:
        """Check this from now on; the first time at once.

        The same again changes nothing. With other options the verdict so far stands until the new check
        decides; with another address or port everything begins anew, as `unknown`, or where `earlier` says.
        """
        watch = self._watches.get(key)
        if watch and watch.spec == spec and watch.is_of(address, port):
            return
        if watch and watch.is_of(address, port):
            earlier = watch.health.report()
        self.remove(key)
        health = Health(rise=spec.rise, fall=spec.fall, now=time.time(), earlier=earlier)
        watch = self._watches[key] = _Watch(key, spec, address, port, health)
        self._tasks[key] = asyncio.create_task(self._run(watch), name=f"check {key[0]}/{key[1]}")

    def remove(self, key: Key) -> None:
        """Stop checking this; nothing happens when it is not checked."""
        if self._watches.pop(key, None):
            task = self._tasks.pop(key)
            task.cancel()
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def state(self, key: Key) -> HealthReport:
        """The verdict; `unknown` for what is not checked. `since` is in seconds since the epoch."""
        watch = self._watches.get(key)
        if watch is None:
            return HealthReport(Operational.UNKNOWN, "it is not checked", self._made)
        report = watch.health.report()
        return replace(report, reason=watch.trouble) if watch.trouble else report

    async def close(self) -> None:
        """Stop all checks and wait until their sockets are closed."""
        for key in list(self._watches):
            self.remove(key)
        await asyncio.gather(*self._ending, return_exceptions=True)

    async def _run(self, watch: _Watch) -> None:
        clock = asyncio.get_running_loop().time
        interval = watch.spec.interval
        await asyncio.sleep(random.uniform(0, min(START_SPREAD, interval)))
        while True:
            async with self._slots:
                begun = clock()
                await self._once(watch)
            due = begun + interval * random.uniform(1 - EARLY, 1)
            await asyncio.sleep(max(0.0, due - clock()))

    async def _once(self, watch: _Watch) -> None:
        """One probe and what follows from it."""
        trouble = ""
        try:
            await self._probe(watch.spec, watch.address, watch.port)
        except CheckFailed as failure:
            self._observe(watch, False, str(failure))
        except CheckImpossible as reason:
            trouble = str(reason)
        except Exception as error:  # a defect of the check must not empty the pool
            trouble = f"the {watch.spec.type} check itself failed: {error!r}"
            _log.debug("check %s/%s", *watch.key, exc_info=True)
        else:
            self._observe(watch, True, "")
        if trouble and trouble != watch.trouble:
            _log.warning("check %s/%s: %s; its verdict stays", *watch.key, trouble)
        watch.trouble = trouble

    def _observe(self, watch: _Watch, ok: bool, reason: str) -> None:
        transition = watch.health.observe(ok, reason, time.time())
        if transition is None or self._watches.get(watch.key) is not watch:
            return
        try:
            self._on_change(watch.key, transition.after, transition.reason)
        except Exception:
            _log.exception("check %s/%s: %s could not be announced", *watch.key, transition.after)
