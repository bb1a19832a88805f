# SPDX-License-Identifier: Apache-2.0
"""What happened in a demo, and when: steps, and the facts that its judge needs. Values only.

Times are seconds of the monotonic clock, as in `Request`.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Step:
    """One step of the demo. From `settled` on, `weights` names the backends that should get new connections."""

    name: str
    title: str
    began: float
    settled: float
    ended: float
    weights: dict[str, int]

    @property
    def expected_shares(self) -> dict[str, float]:
        total = sum(self.weights.values())
        return {name: weight / total for name, weight in self.weights.items()} if total else {}


@dataclass(frozen=True)
class Joined:
    """A backend that should take connections from `at` on: added, or come back."""

    backend: str
    at: float


@dataclass(frozen=True)
class Drained:
    """The drain was answered `at`; `empty` and `removed` say when, None if it did not happen in time."""

    backend: str
    at: float
    empty: float | None
    removed: float | None


@dataclass(frozen=True)
class Killed:
    """A backend's server and link died `at`; the director called it down at `noticed`.

    `window` is the check's fall x interval + timeout: when the director must know at the latest. `allowance`
    is granted for the reconciling after it.
    """

    backend: str
    at: float
    window: float
    allowance: float
    noticed: float | None

    @property
    def until(self) -> float:
        """A request that starts later has no excuse."""
        return self.at + self.window + self.allowance


@dataclass(frozen=True)
class Restarted:
    """The daemon was killed `at` and was ready again at `ready`; program ids as the kernel reports them."""

    at: float
    ready: float
    before: int | None
    between: int | None
    after: int | None


@dataclass(frozen=True)
class Reweighted:
    backend: str
    at: float
    before: int
    after: int


@dataclass(frozen=True)
class Trouble:
    """A step that ended with an error. `late`: something did not happen in time."""

    step: str
    text: str
    late: bool = False


@dataclass(frozen=True)
class DemoRun:
    """A whole demo. A fact is None when its step was not reached."""

    scheduler: str
    rate: float
    client_timeout: float
    began: float
    ended: float
    steps: tuple[Step, ...]
    added: Joined | None = None
    drained: Drained | None = None
    killed: Killed | None = None
    returned: Joined | None = None
    restarted: Restarted | None = None
    reweighted: Reweighted | None = None
    trouble: tuple[Trouble, ...] = field(default=())

    def step(self, name: str) -> Step | None:
        return next((step for step in self.steps if step.name == name), None)
