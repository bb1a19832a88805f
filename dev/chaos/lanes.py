# SPDX-License-Identifier: Apache-2.0
"""The lanes of a run: each does its actions one after the other, when they are due, and notes what became of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from dev.chaos import results
from dev.chaos.disturbances import DISTURBANCES, NEEDS_USER
from dev.chaos.floods import run_flood
from dev.chaos.lab import World
from dev.chaos.operations import perform
from dev.chaos.results import Done
from dev.chaos.schedule import (
    DISTURBANCE,
    FLOOD,
    OPERATION,
    SETTLING,
    Action,
)
from xdpdirector.errors import (
    ConflictError,
    DirectorError,
    InvalidRequestError,
    NotFoundError,
    StoreError,
    TimedOutError,
    UnreachableError,
)

PERSISTS = 60.0  # seconds that an operator tries again what a disturbance keeps from being done
APART = 1.5  # seconds between two disturbances, also when one took longer than it should
_AGAIN = 0.5
Say = Callable[[str], None]


def passes(error: DirectorError) -> bool:
    """Whether a disturbance that passes may be why: no daemon, no disk, or no network to have a backend on."""
    if isinstance(error, InvalidRequestError):
        return "no route leads to" in error.detail
    return isinstance(error, UnreachableError | StoreError | TimedOutError)


class Lanes:
    """Runs until all is done, or `stop`."""

    def __init__(self, world: World, actions: Sequence[Action], say: Say) -> None:
        self._world, self._say = world, say
        self._begun = time.monotonic()
        self._latest = world.options.seconds - SETTLING
        self._stop = threading.Event()
        self._done: list[Done] = []
        work = {DISTURBANCE: self._disturb, OPERATION: self._operate, FLOOD: self._flood}
        self._threads = [
            threading.Thread(
                target=self._run,
                args=[[action for action in actions if action.lane == lane], act],
                name=lane,
                daemon=True,
            )
            for lane, act in work.items()
        ]

    @property
    def begun(self) -> float:
        return self._begun

    def start(self) -> None:
        self._begun = time.monotonic()
        for thread in self._threads:
            thread.start()

    def join(self, timeout: float) -> bool:
        """Whether all have ended within so many seconds."""
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def stop(self) -> None:
        """Nothing new is begun."""
        self._stop.set()

    def done(self) -> list[Done]:
        return sorted(self._done, key=lambda each: each.began)

    def _run(self, actions: Sequence[Action], act: Callable[[Action], tuple[str, str]]) -> None:
        apart = APART if actions and actions[0].lane == DISTURBANCE else 0.0
        free = self._begun
        for number, action in enumerate(actions):
            if self._stop.wait(max(free, self._begun + action.at) - time.monotonic()):
                return
            began = time.monotonic()
            if began > self._begun + self._latest:
                left = len(actions) - number
                self._say(f"{began - self._begun:6.1f} s  {action.lane}: no time is left for {left} more")
                return
            try:
                outcome, detail = act(action)
            except Exception as error:  # it is reported, and the next one is done nevertheless
                outcome, detail = results.FAILED, f"{type(error).__name__}: {error}"
            self._done.append(Done(action, began, time.monotonic(), outcome, detail))
            free = time.monotonic() + apart
            if action.lane != OPERATION or outcome != results.OK:
                told = f": {outcome}, {detail}" if outcome != results.OK else f" ({detail})" if detail else ""
                self._say(f"{began - self._begun:6.1f} s  {action.lane}: {action}{told}")

    def _disturb(self, action: Action) -> tuple[str, str]:
        if action.kind in NEEDS_USER and self._world.user is None:
            return (
                results.SKIPPED,
                "the daemon is root here, and has no helper: no other user may read this checkout",
            )
        steps = DISTURBANCES[action.kind](self._world, action.arguments)
        detail = next(steps)
        self._stop.wait(action.lasts)
        for _ in steps:
            raise AssertionError(f"{action.kind} disturbs twice")
        return results.OK, detail

    def _flood(self, action: Action) -> tuple[str, str]:
        return results.OK, run_flood(self._world, action.kind, action.lasts, action.arguments)

    def _operate(self, action: Action) -> tuple[str, str]:
        until = time.monotonic() + PERSISTS
        while True:
            try:
                perform(action.kind, self._world.director.client, self._world.lab.topology, action.arguments)
            except (ConflictError, NotFoundError) as error:
                return results.REFUSED, error.detail
            except DirectorError as error:
                if not passes(error):
                    return results.FAILED, f"{type(error).__name__}: {error.detail}"
                if time.monotonic() > until or self._stop.wait(_AGAIN):
                    return results.FAILED, f"still after {PERSISTS:g} s: {error.detail}"
            else:
                return results.OK, ""
