# SPDX-License-Identifier: Apache-2.0
"""Sessions of the dashboard and one-time codes: what they are in their file, and how they end."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from xdpdirector.errors import NotFoundError
from xdpdirector.model.access import Role
from xdpdirector.storage.sessions import (
    CODE_LIFETIME,
    IDLE,
    LIFETIME,
    MOST,
    MOST_CODES,
    Holder,
    Sessions,
)

ROOT = Holder("root", Role.ADMIN, uid=0)
DEPLOY = Holder("token:deploy", Role.OPERATE, token="deploy", token_created=datetime(2026, 1, 1, tzinfo=UTC))
TICK = timedelta(seconds=1)


class Clock:
    def __init__(self) -> None:
        self.now = datetime(2026, 1, 2, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sessions(tmp_path: Path, clock: Clock) -> Iterator[Sessions]:
    made = Sessions(tmp_path / "sessions.db", now=clock)
    yield made
    made.close()


@pytest.mark.parametrize("holder", [ROOT, DEPLOY], ids=["user", "token"])
def test_a_session_stands_for_who_began_it(sessions: Sessions, holder: Holder) -> None:
    begun, text = sessions.begin(holder, "127.0.0.1:5")
    found = sessions.find(text)

    assert found == begun
    assert found.holder == holder
    assert (found.view.author, found.view.role, found.view.source) == (
        holder.author,
        holder.role,
        "127.0.0.1:5",
    )
    assert sessions.list() == [found.view]


@pytest.mark.parametrize("change", ["", "x", "_", "{id}", "{id}_", "{id}_wrong", "{text}x"])
def test_nothing_else_proves_one(sessions: Sessions, change: str) -> None:
    begun, text = sessions.begin(ROOT, "")

    assert sessions.find(change.format(id=begun.view.id, text=text)) is None


def test_its_text_is_not_in_the_file(sessions: Sessions, tmp_path: Path) -> None:
    _, text = sessions.begin(ROOT, "")
    sessions.close()

    assert text.partition("_")[2].encode() not in (tmp_path / "sessions.db").read_bytes()


def test_it_ends_when_it_is_not_used(sessions: Sessions, clock: Clock) -> None:
    _, text = sessions.begin(ROOT, "")

    clock.now += IDLE - TICK
    assert sessions.find(text)
    clock.now += IDLE - TICK
    assert sessions.find(text)
    clock.now += IDLE
    assert sessions.find(text) is None
    assert sessions.list() == []


def test_it_ends_however_much_it_is_used(sessions: Sessions, clock: Clock) -> None:
    begun, text = sessions.begin(ROOT, "")

    while clock.now < begun.view.created + LIFETIME:
        assert sessions.find(text)
        clock.now += IDLE / 2
    assert sessions.find(text) is None


def test_somebody_can_end_it(sessions: Sessions) -> None:
    begun, text = sessions.begin(ROOT, "")

    sessions.end(begun.view.id)

    assert sessions.find(text) is None
    with pytest.raises(NotFoundError):
        sessions.end(begun.view.id)


def test_it_outlives_the_daemon(sessions: Sessions, tmp_path: Path, clock: Clock) -> None:
    begun, text = sessions.begin(DEPLOY, "")
    sessions.close()

    later = Sessions(tmp_path / "sessions.db", now=clock)

    assert later.find(text) == begun
    later.close()


def test_there_are_not_more_of_them_than_there_is_room_for(sessions: Sessions, clock: Clock) -> None:
    _, first = sessions.begin(ROOT, "")
    for _ in range(MOST):
        clock.now += timedelta(milliseconds=1)
        _, last = sessions.begin(ROOT, "")

    assert len(sessions.list()) == MOST
    assert sessions.find(first) is None
    assert sessions.find(last)


def test_what_has_ended_goes_from_the_file(sessions: Sessions, clock: Clock, tmp_path: Path) -> None:
    sessions.begin(ROOT, "")
    clock.now += IDLE
    sessions.begin(ROOT, "")
    sessions.close()

    with sqlite3.connect(tmp_path / "sessions.db") as file:
        assert file.execute("SELECT count(*) FROM sessions").fetchone() == (1,)
    file.close()


def test_a_damaged_file_is_set_aside(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "sessions.db"
    path.write_bytes(b"no database" * 1000)
    sessions = Sessions(path, now=clock)

    begun, text = sessions.begin(ROOT, "")

    assert sessions.find(text) == begun
    assert len(list(tmp_path.glob("sessions.db.damaged-*"))) == 1
    sessions.close()


def test_a_code_counts_once(sessions: Sessions) -> None:
    code, _ = sessions.make_code(DEPLOY)

    assert sessions.use_code("another") is None
    assert sessions.use_code(code) == DEPLOY
    assert sessions.use_code(code) is None


def test_a_code_counts_for_a_short_time(sessions: Sessions, clock: Clock) -> None:
    code, expires = sessions.make_code(ROOT)

    clock.now += CODE_LIFETIME

    assert expires == clock.now
    assert sessions.use_code(code) is None


def test_codes_are_bounded(sessions: Sessions) -> None:
    codes = [sessions.make_code(ROOT)[0] for _ in range(MOST_CODES + 1)]

    assert sessions.use_code(codes[0]) is None
    assert sessions.use_code(codes[1]) == ROOT
