# SPDX-License-Identifier: Apache-2.0
"""What each live director says of itself, in `PREFIX/directors/NAME`, under a lease: it goes with the director.

Knows nothing of what is said.
"""

from __future__ import annotations

import json
import threading

from xdpdirector.model.fleet import DirectorReport
from xdpdirector.storage.etcd.gateway import Gateway, after_all, put

LEASE = 5
"""Seconds after its last word, after which a director is none of the fleet's live ones."""


class Reports:
    """Of one director. Threads may use it."""

    def __init__(self, gateway: Gateway, prefix: str, director: str) -> None:
        self._gateway, self._directory = gateway, f"{prefix}/directors/"
        self._key = self._directory + director
        self._lease = 0
        self._said: DirectorReport | None = None
        self._turn, self._has_left = threading.Lock(), False

    def exchange(self, report: DirectorReport) -> dict[str, DirectorReport]:
        """Say this, and hear what all say, by name. StoreError."""
        with self._turn:
            if not self._has_left:
                self._say(report)
        return self.all()

    def _say(self, report: DirectorReport) -> None:
        if not self._lease or not self._gateway.keep_alive(self._lease):
            self._lease, self._said = self._gateway.grant(LEASE), None
        if report != self._said:
            value = report.model_dump_json().encode()
            self._gateway.transaction([], [put(self._key, value, self._lease)])
            self._said = report

    def all(self) -> dict[str, DirectorReport]:
        """What all say, by name. StoreError."""
        found = {}
        for each in self._gateway.range(self._directory, after_all(self._directory)):
            name = each.key.removeprefix(self._directory)
            found[name] = _report(each.value).model_copy(update={"name": name})
        return found

    def leave(self) -> None:
        """This director goes: the others need not wait for the lease."""
        with self._turn:
            self._has_left = True
            if self._lease:
                self._gateway.revoke(self._lease)
                self._lease = 0


def _report(value: bytes) -> DirectorReport:
    """Another release may say more than this one knows, or something else."""
    try:
        said = json.loads(value)
        return DirectorReport.model_validate(
            {name: said[name] for name in said.keys() & DirectorReport.model_fields.keys()}
        )
    except (ValueError, AttributeError):  # a ValidationError is a ValueError
        return DirectorReport(name="", why="what it says cannot be read by this release")
