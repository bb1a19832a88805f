# SPDX-License-Identifier: Apache-2.0
"""Keeps the present findings with their start; reports each once when it appears and once when it is gone.
Pure; the caller passes the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Protocol

from xdpdirector.lan.messages import Draft
from xdpdirector.lan.types import Finding


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
