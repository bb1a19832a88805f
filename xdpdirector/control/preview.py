# SPDX-License-Identifier: Apache-2.0
"""A dry run: what a change of services would do, and which connections it would end, by the data plane's counters.
Changes nothing."""

from __future__ import annotations

import asyncio

from xdpdirector.dataplane.interface import Plane
from xdpdirector.model import AdminState, Key, ServiceSpec
from xdpdirector.state.diff import Difference, Missing, affected, differences
from xdpdirector.state.drains import hides_connections
from xdpdirector.state.dry_run import DryRunError
from xdpdirector.state.edits import Services


async def dry_run_result(
    plane: Plane, before: Services, after: Services, missing: tuple[Missing, ...]
) -> DryRunError:
    """The result of a dry run of a change of services."""

    def count(key: Key) -> tuple[int, bool]:
        return running(plane, before[key[0]], key)

    cut_off = affected(before, after, count)
    return DryRunError(await compared(before, after), cut_off, missing)


async def compared(before: Services, after: Services) -> tuple[Difference, ...]:
    """Their differences, found beside the loop: there may be thousands."""
    return await asyncio.to_thread(differences, before, after)


def running(plane: Plane, spec: ServiceSpec, key: Key) -> tuple[int, bool]:
    """See `xdpdirector.state.diff.Running`."""
    admin, settled = spec.backends[key[1]].admin, plane.is_settled(key[0])
    told = admin is AdminState.MAINTENANCE or (admin is AdminState.DRAIN and settled)
    unseen = not told and hides_connections(spec, settled=settled)
    return plane.counts(key).active, unseen and bool(plane.traffic([key])[key].packets)
