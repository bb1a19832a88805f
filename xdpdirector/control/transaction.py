# SPDX-License-Identifier: Apache-2.0
"""A change of the wanted services as one transaction over the data plane and the store.

    check     the data plane has room for the services as they shall be
    add       the data plane gets what the change adds; nothing ends yet
    store     the revision is written to the disk
    remove    the data plane loses what the change removes: only now connections end

When one of the first three fails, everything is rolled back: services, checks and data plane are as they were
before, and running connections go on. When `remove` fails, the change is stored and holds: DataplaneError says what
is left over, and the reconciler tries it again. Knows nothing of revisions, drains or who wants the change.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, Mapping

from xdpdirector.control.backend_status import BackendStatuses
from xdpdirector.control.planner import grown
from xdpdirector.control.service_applier import ServiceApplier
from xdpdirector.dataplane.interface import Plane
from xdpdirector.dataplane.service_plan import ServicePlan
from xdpdirector.errors import DataplaneError
from xdpdirector.state import edits
from xdpdirector.state.edits import Services

log = logging.getLogger(__name__)


class Transactions:
    """One runs at a time: `xdpdirector.control.reconciler.Reconciler.lock` is held by the caller."""

    def __init__(self, applier: ServiceApplier, plane: Plane, statuses: BackendStatuses) -> None:
        self._applier, self._plane, self._statuses = applier, plane, statuses

    async def run(self, wanted: Services, store: Callable[[], Awaitable[None]]) -> None:
        """Make these the wanted services. `store` writes them to the disk.

        CapacityError, DataplaneError, or what `store` raises."""
        before = self._applier.services
        touched = edits.touched(before, wanted)
        self._require_room(wanted, touched)
        memory = self._statuses.memory(touched)
        plans = {name: self._applier.planned(name).plan for name in touched if name in before}
        try:
            self._applier.switch(wanted)
            unfinished = self._add(plans, touched)
            await store()
        except BaseException:
            self._applier.switch(before, memory)
            self._finish(sorted(touched, key=lambda name: name in before))
            raise
        failed = self._finish(unfinished)
        if failed:
            raise DataplaneError(
                f"the change is stored, but the data plane does not have all of it: {'; '.join(failed)}. "
                "It is tried again every few seconds"
            )

    def check(self, wanted: Services) -> None:
        """CapacityError when the data plane has no room for these services."""
        self._require_room(wanted, edits.touched(self._applier.services, wanted))

    def _require_room(self, wanted: Services, touched: Collection[str]) -> None:
        gone = [name for name in touched if name not in wanted]
        self._plane.require_room({name: wanted[name] for name in touched if name in wanted}, gone)

    def _add(self, before: Mapping[str, ServicePlan], touched: Collection[str]) -> list[str]:
        """Bring to the data plane what the change adds; the services of which something is left to remove.

        Some additions may have no room beside what the change removes. These wait for all others; then what is to
        be removed is removed at once, before the change is stored.
        """
        to_remove = [name for name in touched if name not in self._applier.services]
        without_room = []
        for name in touched:
            if name in self._applier.services:
                planned = self._applier.planned(name)
                addition = grown(before.get(name), planned.plan)
                if not self._applier.apply_addition(name, before.get(name), addition, planned):
                    without_room.append(name)
                elif addition != planned.plan:
                    to_remove.append(name)
        if without_room:
            self._applier.apply_or_remove([*to_remove, *without_room])
            return []
        return to_remove

    def _finish(self, names: Collection[str]) -> list[str]:
        """Bring these to the data plane in full, each whether others fail or not; a sentence for each failure."""
        failed = []
        for name in names:
            try:
                self._applier.apply_or_remove([name])
            except Exception as error:
                log.exception("%s is not in the data plane as wanted", name)
                failed.append(f"{name}: {error}")
        return failed
