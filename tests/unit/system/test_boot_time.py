# SPDX-License-Identifier: Apache-2.0
"""Moments outlive a jump of the wall clock, the end of the daemon, and a reboot; drains in the store do, too."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from xdpdirector.model import AdminState
from xdpdirector.state.admin_change import AdminChange
from xdpdirector.state.drains import Drain, Drains
from xdpdirector.state.revisions import RevisionDraft
from xdpdirector.storage.store import Store
from xdpdirector.system import boot_time
from xdpdirector.system.boot_time import Moment, Now, Stored, stored

NOON = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)
NOW = Now(1000.0, NOON)
KEY = ("web", "web1")
HOUR = 3600.0


def hours(number: float) -> timedelta:
    return timedelta(hours=number)


@pytest.mark.parametrize(
    ("passed", "jumped", "told"),
    [
        pytest.param(0.0, 0.0, 60.0, id="at once"),
        pytest.param(30.0, 0.2, 60.0, id="what is no jump is not told"),
        pytest.param(30.0, HOUR, HOUR + 60.0, id="forward"),
        pytest.param(90.0, -HOUR, 60.0 - HOUR, id="backward"),
    ],
)
def test_a_moment_is_told_by_the_clock_as_it_is_set(passed: float, jumped: float, told: float) -> None:
    moment = Moment(*NOW).later(60)
    now = Now(NOW.at + passed, NOON + timedelta(seconds=passed + jumped))

    assert moment.told(now) == NOON + timedelta(seconds=told)


@pytest.fixture
def booted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot_time, "boot", lambda: "this one")


@pytest.mark.parametrize("jump", [-2, 0, 2])
def test_within_one_boot_the_wall_clock_does_not_count(booted: None, jump: int) -> None:
    kept = stored(Moment(*NOW).later(HOUR), NOW)

    back = kept.restored(Now(NOW.at + 60, NOON + hours(jump)), longest=HOUR)

    assert back.at == NOW.at + HOUR


@pytest.mark.parametrize(
    ("wall", "left"),
    [
        pytest.param(NOON + hours(0.5), HOUR / 2, id="half an hour later"),
        pytest.param(NOON + hours(2), -HOUR, id="past it"),
        pytest.param(NOON - hours(48), HOUR, id="the clock is wrong: no more than was given"),
    ],
)
@pytest.mark.parametrize("at", [None, 5.0])
def test_after_a_reboot_the_wall_clock_counts_within_limits(
    booted: None, wall: datetime, left: float, at: float | None
) -> None:
    now = Now(7.0, wall)

    back = Stored(NOON + hours(1), at, "another one").restored(now, longest=HOUR)

    assert back.at == pytest.approx(now.at + left)
    assert abs(back.told(now) - (wall + timedelta(seconds=left))) < boot_time.JUMP


def reopened(path: Path, drains: Drains) -> Drain:
    with Store(path) as store:
        store.append(RevisionDraft({}, author="operator", reason="", drains=drains.running()))
    with Store(path) as store:
        return store.drains()[KEY]


@pytest.mark.parametrize("jump", [-48, -2, 2, 48])
def test_a_drain_goes_on_in_another_daemon_whatever_the_wall_clock_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jump: int
) -> None:
    drains = Drains()
    drains.begin(KEY, 5, AdminChange(AdminState.DRAIN, reason="new memory", deadline=HOUR, on_deadline="cut"))
    begun = drains.running()[KEY]
    monkeypatch.setattr(boot_time, "wall_clock", lambda: datetime.now(UTC) + hours(jump))

    found = reopened(tmp_path / "state.db", drains)

    assert begun.deadline
    assert found.deadline
    assert (found.since.at, found.deadline.at) == (begun.since.at, begun.deadline.at)
    assert (found.reason, found.on_deadline, found.at_start, found.leaves, found.within) == (
        "new memory",
        "cut",
        5,
        False,
        HOUR,
    )


def test_after_a_reboot_with_a_clock_that_is_behind_a_drain_gets_what_it_was_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drains = Drains()
    drains.begin(KEY, 5, AdminChange(AdminState.DRAIN, deadline=HOUR, on_deadline="cut"))
    with Store(tmp_path / "state.db") as store:
        store.append(RevisionDraft({}, author="operator", reason="", drains=drains.running()))
    monkeypatch.setattr(boot_time, "boot", lambda: "the next one")
    monkeypatch.setattr(boot_time, "wall_clock", lambda: datetime.now(UTC) - hours(48))

    with Store(tmp_path / "state.db") as store:
        found = store.drains()[KEY]

    now = boot_time.now()
    assert found.deadline
    assert HOUR - 60 < found.deadline.at - now.at <= HOUR
    assert now.at - 60 < found.since.at <= now.at
