# SPDX-License-Identifier: Apache-2.0
"""Publishes events for what can only be polled: problems that begin and end, drains that finish, XDP programs that
are attached or detached.

Compares each poll with the one before. Knows neither where the values come from nor when it is called.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

from xdpdirector.control.events import Events
from xdpdirector.model import Key
from xdpdirector.model.status import AttachmentView


class StatusEvents:
    def __init__(self, events: Events) -> None:
        self._events = events
        self._problems: frozenset[str] = frozenset()
        self._drained: frozenset[Key] = frozenset()
        self._carrying: dict[str, AttachmentView] = {}

    def look(
        self, problems: Iterable[str], drained: Collection[Key], carrying: Iterable[AttachmentView]
    ) -> None:
        """`problems` are sentences; `drained`: the draining backends that have no connection left."""
        self._publish_problems(frozenset(problems))
        for service, name in sorted(frozenset(drained) - self._drained):
            self._events.publish("backend.drained", f"{service}/{name}", "drained: no connection is left")
        self._drained = frozenset(drained)
        self._publish_programs({each.interface: each for each in carrying})

    def _publish_problems(self, problems: frozenset[str]) -> None:
        for sentence in sorted(problems - self._problems):
            self._events.publish("director.problem", "director", sentence)
        for sentence in sorted(self._problems - problems):
            self._events.publish("director.recovered", "director", f"no more: {sentence}")
        self._problems = problems

    def _publish_programs(self, carrying: dict[str, AttachmentView]) -> None:
        before, self._carrying = self._carrying, carrying
        for name in sorted(before.keys() - carrying.keys()):
            self._events.publish(
                "dataplane.lost", name, f"{name} carries program {before[name].program_id} no more"
            )
        for name, each in sorted(carrying.items()):
            known = before.get(name)
            if known is None or (known.mode, known.program_id) != (each.mode, each.program_id):
                text = f"program {each.program_id} runs on {name}, {each.mode} mode"
                self._events.publish(
                    "dataplane.attached", name, text, program_id=each.program_id, mode=each.mode
                )
