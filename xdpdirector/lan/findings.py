# SPDX-License-Identifier: Apache-2.0
"""What the monitor remembers: the present findings with their start, and each backend address's last MAC.

Publishes a finding once when it appears and once when it is gone, and each change of a MAC. Sends nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from xdpdirector.lan.expected import Target
from xdpdirector.lan.messages import Draft
from xdpdirector.lan.types import Finding
from xdpdirector.model import Address
from xdpdirector.model.status import utc_now


@dataclass(frozen=True)
class Known:
    """The last MAC, and the number of changes. `at`: time of the last change."""

    mac: bytes
    changes: int = 0
    at: datetime | None = None


class Macs:
    """Publishes `lan.mac-changed`. An address that loses its MAC and returns with another one counts as
    changed."""

    def __init__(self, events: Publisher) -> None:
        self._events = events
        self._known: dict[Address, Known] = {}

    @property
    def changes(self) -> Mapping[Address, int]:
        return {address: known.changes for address, known in self._known.items()}

    def of(self, address: Address) -> Known | None:
        return self._known.get(address)

    def note(self, address: Address, mac: bytes | None, whose: Callable[[Address], Target | None]) -> bool:
        """Record the MAC; True if it changed. `whose` is only called then."""
        known = self._known.get(address)
        if mac is None or (known and known.mac == mac):
            return False
        if known is None:
            self._known[address] = Known(mac)
            return False
        self._known[address] = Known(mac, known.changes + 1, utc_now())
        if target := whose(address):
            self._tell(target, mac, known.mac)
        return True

    def _tell(self, target: Target, mac: bytes, before: bytes) -> None:
        self._events.publish(
            "lan.mac-changed",
            target.names[0],
            f"{target} has the MAC {mac.hex(':')} now, before {before.hex(':')}",
            backends=list(target.names),
            mac=mac.hex(":"),
            before=before.hex(":"),
            interface=target.route.interface,
        )

    def keep(self, wanted: Collection[Address]) -> None:
        """Drop all other addresses."""
        self._known = {address: known for address, known in self._known.items() if address in wanted}


class Publisher(Protocol):
    """The part of `xdpdirector.control.events.Events` that is used here."""

    def publish(self, kind: str, subject: str, text: str, **data: Any) -> object: ...


class Ledger:
    """Event kinds: `lan.` plus the kind of a new finding; `lan.cleared` when it is gone."""

    def __init__(self, events: Publisher) -> None:
        self._events = events
        self._findings: dict[object, Finding] = {}

    @property
    def findings(self) -> tuple[Finding, ...]:
        return tuple(self._findings.values())

    def settle(self, drafts: Iterable[Draft], now: datetime) -> None:
        """Replace the present findings."""
        before, self._findings = self._findings, {}
        for draft in drafts:
            known = before.get(draft.key)
            self._findings[draft.key] = finding = _finding(draft, known.since if known else now)
            if known is None:
                self._events.publish(
                    f"lan.{finding.kind}",
                    finding.subject,
                    finding.text,
                    **finding.model_dump(mode="json", exclude={"kind", "subject", "text", "since"}),
                )
        for key in before.keys() - self._findings.keys():
            gone = before[key]
            self._events.publish(
                "lan.cleared", gone.subject, f"no longer: {gone.text}", finding=gone.kind, mac=gone.mac
            )


def _finding(draft: Draft, since: datetime) -> Finding:
    return Finding(
        kind=draft.kind,
        subject=draft.subject,
        text=draft.text,
        evidence=draft.evidence,
        remedy=draft.remedy,
        since=since,
        vip=draft.vip,
        backends=draft.backends,
        mac=draft.mac.hex(":") if draft.mac else None,
        interface=draft.interface,
    )
