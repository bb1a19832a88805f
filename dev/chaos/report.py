# SPDX-License-Identifier: Apache-2.0
"""A chaos run in one document. Times in it are seconds since the run began. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from dev.chaos import client_log, expectations
from dev.chaos.client_log import Ended, Second
from dev.chaos.expectations import Broken, Finding, Verdict
from dev.chaos.observer import Said
from dev.chaos.results import Done
from dev.chaos.schedule import DISTURBANCE
from dev.chaos.setting import Options


@dataclass(frozen=True)
class Report:
    options: Options
    begun: float
    seconds: float
    actions: tuple[Done, ...]
    broken: tuple[Broken, ...]
    findings: tuple[Finding, ...]
    ended: Counter[str]
    """Running connections, by kind."""
    served: int
    """New connections."""
    late: int
    slowest: float
    lag: float
    verdict: Verdict
    said: tuple[Said, ...]

    @property
    def passed(self) -> bool:
        return self.verdict is Verdict.PASS

    def counts(self) -> dict[tuple[str, str], Counter[str]]:
        """Lane and kind: outcomes."""
        counted: dict[tuple[str, str], Counter[str]] = {}
        for each in self.actions:
            counted.setdefault((each.action.lane, each.action.kind), Counter())[each.outcome] += 1
        return dict(sorted(counted.items()))

    def since(self, moment: float) -> float:
        return round(moment - self.begun, 2)

    def document(self) -> dict[str, Any]:
        """As plain types, for JSON."""
        return {
            "verdict": str(self.verdict),
            "options": {**asdict(self.options), "log": self.options.log and str(self.options.log)},
            "seconds": round(self.seconds, 1),
            "connections": {
                "running": dict(self.ended),
                "served": self.served,
                "late": self.late,
                "slowest": self.slowest,
                "lag": self.lag,
            },
            "broken": [
                {**self._connection(each.connection), "before": [self._line(one) for one in each.before]}
                for each in self.broken
            ],
            "findings": [{"at": self.since(each.at), "text": each.text} for each in self.findings],
            "actions": [self._action(each) for each in self.actions],
            "said": [{"at": self.since(each.at), "kind": each.kind, "text": each.text} for each in self.said],
        }

    def _connection(self, found: Ended) -> dict[str, Any]:
        moments = {name: self.since(getattr(found, name)) for name in ("opened", "at")}
        last = {"last": None if found.last is None else self.since(found.last)}
        return asdict(found) | moments | last

    def _line(self, action: Done) -> str:
        return (
            f"{self.since(action.began)} to {self.since(action.ended)}: {action.action.lane} {action.action}"
        )

    def _action(self, found: Done) -> dict[str, Any]:
        named = expectations.names(found, self.said) if found.action.lane == DISTURBANCE else None
        return {
            **found.action.document(),
            "began": self.since(found.began),
            "ended": self.since(found.ended),
            "outcome": found.outcome,
            "detail": found.detail,
            "named": named,
        }


def report(
    options: Options,
    begun: float,
    ended_at: float,
    actions: Sequence[Done],
    records: Sequence[Ended | Second],
    said: Sequence[Said],
) -> Report:
    connections = [each for each in records if isinstance(each, Ended)]
    seconds = [each for each in records if isinstance(each, Second)]
    broke, found = expectations.broken(connections, actions), expectations.findings(actions, said)
    return Report(
        options=options,
        begun=begun,
        seconds=ended_at - begun,
        actions=tuple(actions),
        broken=tuple(broke),
        findings=tuple(found),
        ended=Counter(each.kind for each in connections if each.kind != client_log.NEW),
        served=sum(each.served for each in seconds),
        late=sum(each.late for each in seconds),
        slowest=max((each.slowest for each in seconds), default=0.0),
        lag=max((each.lag for each in seconds), default=0.0),
        verdict=expectations.verdict(broke, found, seconds),
        said=tuple(said),
    )
