# SPDX-License-Identifier: Apache-2.0
"""Costs of one program behind a driver, without the driver's own. Knows nothing of what the packets are."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from dev.bench.baselines import BARE, Baselines
from dev.bench.director_target import Ours
from dev.bench.driver import LOOPBACK
from dev.bench.figure import Figure, Key
from dev.bench.frames import arp
from dev.bench.samples import interleaved
from dev.bench.workload import Pace, Workload
from xdpdirector import libbpf
from xdpdirector.lab.errors import LabError

Measure = Callable[[], float]
"""Runs a burst; nanoseconds a packet."""
_DIRECT, _DRIVEN = Key(Workload.NOTHING, BARE), Key(Workload.NOTHING, "bare TX behind the driver")


def bare_tx(baselines: Baselines, pace: Pace) -> Measure:
    """Of bare TX without a driver."""
    program = baselines.baseline(BARE)
    return lambda: libbpf.prog_test_run(program, arp().data, LOOPBACK, repeat=pace.burst).nanoseconds


def without_driver(
    baselines: Baselines,
    ours: Ours,
    cases: Mapping[Key, Measure],
    driven: Measure,
    reason: str,
    pace: Pace,
    how: str,
) -> Iterator[Figure]:
    """A figure for each case, all measured in the same rounds. `driven`: bare TX behind the driver; with bare TX
    alone it tells what the driver costs. LabError when a packet had another reason than this one."""
    before = ours.counted()
    measured = interleaved({**cases, _DIRECT: bare_tx(baselines, pace), _DRIVEN: driven}, pace.rounds)
    if strays := ours.counted_since(before).keys() - {reason}:
        raise LabError(f"packets went elsewhere than {reason}: {', '.join(sorted(strays))}")
    cost = measured[_DRIVEN].least - measured[_DIRECT].least
    for key in cases:
        yield Figure(key, measured[key].less(cost), how)
