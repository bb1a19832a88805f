# SPDX-License-Identifier: Apache-2.0
"""What became of a capture's packets, written down and compared: JSON, a line for each packet, after a line that
says what the file is. Lines are in the capture's order and have the same keys in the same order, so that `diff`
reads them, too. Pure but for the files it is given.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO, Any

from xdpdirector.errors import InvalidRequestError
from xdpdirector.replay.outcomes import Decision
from xdpdirector.replay.packet import Packet

KIND = "xdpdirector-replay"
VERSION = 1


@dataclass(frozen=True)
class Difference:
    """`found` or `expected` is None where only the other has a packet of that number."""

    expected: Packet | None
    found: Packet | None

    def __str__(self) -> str:
        one = self.found or self.expected
        assert one is not None
        if self.expected is None:
            return f"packet {one.number}, {one.flow}: was not expected; it is {one.decision}"
        if self.found is None:
            return f"packet {one.number}, {one.flow}: is missing; {one.decision} was expected"
        if self.expected.flow != self.found.flow:
            return (
                f"packet {one.number}: is {one.flow}, another packet than was recorded: {self.expected.flow}"
            )
        return f"packet {one.number}, {one.flow}: {self.expected.decision} was expected; it is {one.decision}"


def document(packet: Packet) -> dict[str, Any]:
    """A packet as JSON values."""
    found: dict[str, Any] = {
        "packet": packet.number,
        "time": round(packet.seconds, 6),
        "flow": packet.flow,
        "reason": packet.decision.reason,
    }
    if packet.decision.service:
        found["service"] = packet.decision.service
    if packet.decision.backend:
        found["backend"] = packet.decision.backend
    return found


class Recorder:
    """Writes packets as they come."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file
        self._write({"kind": KIND, "version": VERSION})

    def add(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            self._write(document(packet))

    def _write(self, line: dict[str, Any]) -> None:
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")


def read(file: IO[str], name: str) -> Iterator[Packet]:
    """The packets of a recording. InvalidRequestError with the line that is none."""
    for number, line in enumerate(file, start=1):
        try:
            values = json.loads(line)
            if number > 1:
                yield _packet(values)
            elif (values["kind"], values["version"]) != (KIND, VERSION):
                raise ValueError(f"it says it is {values['kind']} {values['version']}")
        except (ValueError, TypeError, KeyError) as error:
            raise InvalidRequestError(
                f"{name}:{number}: this is no line of a recording by `replay --record` ({error})"
            ) from error


def _packet(values: dict[str, Any]) -> Packet:
    decision = Decision(values["reason"], values.get("service", ""), values.get("backend", ""))
    return Packet(int(values["packet"]), float(values["time"]), values["flow"], decision)


class Comparison:
    """Compares packets as they come with those that were expected. When they were seen does not count."""

    def __init__(self, expected: Iterator[Packet], most: int = 20) -> None:
        """`most`: so many differences are kept, and the others counted."""
        self.differing = 0
        self.first: list[Difference] = []
        self._expected, self._most = expected, most

    def add(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            expected = next(self._expected, None)
            if expected is None or _said(expected) != _said(packet):
                self._differ(Difference(expected, packet))

    def finish(self) -> None:
        """No more come."""
        for expected in self._expected:
            self._differ(Difference(expected, None))

    def _differ(self, difference: Difference) -> None:
        self.differing += 1
        if len(self.first) < self._most:
            self.first.append(difference)


def _said(packet: Packet) -> tuple[int, str, Decision]:
    return packet.number, packet.flow, packet.decision
