# SPDX-License-Identifier: Apache-2.0
"""What a director with this configuration would do with that capture.

    with Replay(config.load(Path("director.yaml"))) as replay:
        results = replay.run(Path("capture.pcap"))
    assert results.summary.verdicts == {"forward": 12}

Needs root, as loading a program does. Touches nothing of the machine: no interface, no pins, no address, no daemon.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Self

from xdpdirector.config import config_file
from xdpdirector.dataplane.maps import Array
from xdpdirector.model import Configuration
from xdpdirector.replay import sandbox
from xdpdirector.replay.assumptions import Premises, backends_of, macs_of
from xdpdirector.replay.batch import Batch, runnable
from xdpdirector.replay.capture import Capture
from xdpdirector.replay.clock import Passing
from xdpdirector.replay.describe import described
from xdpdirector.replay.outcomes import Decision, Decisions
from xdpdirector.replay.packet import Packet
from xdpdirector.replay.simulator import Simulator
from xdpdirector.replay.summary import Summary


class Judged(NamedTuple):
    """Some frames of a capture, the seconds since its first frame, and what became of them."""

    batch: Batch
    seconds: Array
    decisions: Decisions


@dataclass(frozen=True)
class Results:
    """Of a whole capture."""

    packets: tuple[Packet, ...]
    summary: Summary

    @cached_property
    def decisions(self) -> tuple[Decision, ...]:
        return tuple(packet.decision for packet in self.packets)


class Replay:
    """A context manager: it compiles the program, which takes some seconds. Captures can be run one after the
    other; each meets a director that has had no packet yet."""

    def __init__(
        self,
        configuration: Configuration | Path | str,
        *,
        down: Collection[str] = (),
        macs: Collection[str] = (),
    ) -> None:
        """`configuration`: itself, or its file; `down`: backends, as `web/web1`, whose check shall have failed;
        `macs`: those that frames for the director have, when frames for others shall be left alone.

        ConfigurationError, InvalidRequestError.
        """
        self.configuration = (
            configuration
            if isinstance(configuration, Configuration)
            else config_file.load(Path(configuration))
        )
        self.premises = Premises(down=backends_of(down), own=macs_of(macs))
        self.premises.plans(self.configuration)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with sandbox.loading([self.configuration.sizes]) as (loaded,):
            self._simulator = self._stack.enter_context(Simulator(loaded))
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def run(self, path: Path | str) -> Results:
        """All packets of a capture: for captures that fit into memory. CaptureError, DataplaneError."""
        summary, packets = Summary(), list[Packet]()
        with Capture(Path(path)) as capture:
            for judged in self.judge(capture):
                summary.add(*judged)
                packets += packets_of(judged)
        return Results(tuple(packets), summary)

    def judge(self, capture: Capture) -> Iterator[Judged]:
        """Piece by piece, in bounded memory; each is valid until the next."""
        passing = Passing()
        self._simulator.begin(self.configuration, self.premises)
        for batch in capture.batches():
            seconds = passing.seconds(batch.times)
            yield Judged(batch, seconds, self._simulator.run(runnable(batch), seconds))


def packets_of(judged: Judged) -> Iterator[Packet]:
    """One by one."""
    for place, seconds in enumerate(judged.seconds.tolist()):
        yield Packet(
            judged.batch.number + place,
            seconds,
            described(judged.batch.frame(place)),
            judged.decisions[place],
        )
