# SPDX-License-Identifier: Apache-2.0
"""Tokens: what is stored of them, which are valid, and which are not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from xdpdirector.errors import CapacityError, ConflictError, NotFoundError, StoreError
from xdpdirector.model.access import Role
from xdpdirector.storage.access_db import AccessFile
from xdpdirector.storage.tokens import MOST, USE_APART, Tokens, TokenSpec

BEGIN = datetime(2025, 1, 1, 12, 0, tzinfo=UTC)
HOUR = 3600.0


class Wall:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = BEGIN

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def file(tmp_path: Path) -> Iterator[AccessFile]:
    file = AccessFile(tmp_path / "access.db")
    yield file
    file.close()


@pytest.fixture
def wall() -> Wall:
    return Wall()


@pytest.fixture
def tokens(file: AccessFile, wall: Wall) -> Tokens:
    return Tokens(file, now=wall)


def test_a_token_is_found_by_its_text(tokens: Tokens) -> None:
    made, text = tokens.add(TokenSpec(name="deploy", role=Role.OPERATE))

    found = tokens.find(text)

    assert found == made
    assert (made.name, made.role, made.created, made.expires) == ("deploy", Role.OPERATE, BEGIN, None)


def test_the_text_has_256_random_bits_and_is_stored_nowhere(tokens: Tokens, file: AccessFile) -> None:
    _, text = tokens.add(TokenSpec(name="deploy", role=Role.ADMIN))
    secret = text.split("_", 2)[2]
    file.close()

    stored = b"".join(path.read_bytes() for path in file.path.parent.iterdir())

    assert len(secret) == 43  # 32 bytes in base64
    assert b"deploy" in stored
    assert secret.encode() not in stored


def test_the_file_is_for_its_user_only(tokens: Tokens, file: AccessFile) -> None:
    tokens.add(TokenSpec(name="deploy", role=Role.ADMIN))

    assert {path.stat().st_mode & 0o777 for path in file.path.parent.iterdir()} == {0o600}


@pytest.mark.parametrize(
    "change",
    [
        lambda text: text[:-1],
        lambda text: text + "A",
        lambda text: text[:-1] + ("A" if text[-1] != "A" else "B"),
        lambda text: text.replace("xdpd_", "other_"),
        lambda text: "_".join([*text.split("_")[:2], ""]),
        lambda text: text.upper(),
        lambda text: "",
        lambda text: "_",
        lambda text: "xdpd_%_%",
        lambda text: "xdpd_' OR 1=1 --_x",
        lambda text: "\udcff" * 40,
        lambda text: "x" * 16000,
    ],
    ids=[
        "shorter", "longer", "another last letter", "another prefix", "no secret", "capitals", "empty", "bare",
        "wildcards", "SQL", "no Unicode", "long",
    ],
)  # fmt: skip
def test_another_text_is_not_valid(tokens: Tokens, change: object) -> None:
    _, text = tokens.add(TokenSpec(name="deploy", role=Role.ADMIN))

    assert callable(change)
    assert tokens.find(change(text)) is None


def test_the_secret_of_another_token_is_not_valid(tokens: Tokens) -> None:
    _, one = tokens.add(TokenSpec(name="one", role=Role.READ))
    _, two = tokens.add(TokenSpec(name="two", role=Role.ADMIN))

    mixed = "_".join([*two.split("_")[:2], one.split("_", 2)[2]])

    assert tokens.find(mixed) is None


def test_a_token_expires(tokens: Tokens, wall: Wall) -> None:
    made, text = tokens.add(TokenSpec(name="deploy", role=Role.ADMIN, lifetime=HOUR))
    wall.now += timedelta(seconds=HOUR - 1)
    assert tokens.any_valid()
    assert tokens.find(text) is not None

    wall.now += timedelta(seconds=1)

    assert made.expires == BEGIN + timedelta(seconds=HOUR)
    assert tokens.find(text) is None
    assert not tokens.any_valid()
    assert [token.name for token in tokens.list()] == ["deploy"]


def test_a_removed_token_is_not_valid(tokens: Tokens) -> None:
    _, text = tokens.add(TokenSpec(name="deploy", role=Role.ADMIN))

    tokens.remove("deploy")

    assert tokens.find(text) is None
    assert tokens.list() == []


def test_a_name_can_be_had_once(tokens: Tokens) -> None:
    tokens.add(TokenSpec(name="deploy", role=Role.ADMIN))

    with pytest.raises(ConflictError, match="deploy"):
        tokens.add(TokenSpec(name="deploy", role=Role.READ))


def test_what_is_not_there_cannot_be_removed(tokens: Tokens) -> None:
    with pytest.raises(NotFoundError, match="deploy"):
        tokens.remove("deploy")


def test_there_is_a_most(tokens: Tokens, file: AccessFile) -> None:
    with file.database.transaction():
        for number in range(MOST):
            file.database.write(
                "INSERT INTO tokens (id, name, role, digest, created) VALUES (?, ?, 'read', x'00', ?)",
                (str(number), str(number), BEGIN.isoformat()),
            )

    with pytest.raises(CapacityError, match=str(MOST)):
        tokens.add(TokenSpec(name="one-more", role=Role.READ))


def test_use_is_noted_coarsely(tokens: Tokens, wall: Wall) -> None:
    _, text = tokens.add(TokenSpec(name="deploy", role=Role.READ))
    tokens.find(text)
    wall.now += USE_APART - timedelta(seconds=1)
    tokens.find(text)
    first = tokens.list()[0].last_used

    wall.now += timedelta(seconds=1)
    tokens.find(text)

    assert first == BEGIN
    assert tokens.list()[0].last_used == BEGIN + USE_APART


def test_a_token_outlives_the_process(tokens: Tokens, file: AccessFile) -> None:
    made, text = tokens.add(TokenSpec(name="deploy", role=Role.OPERATE))
    file.close()

    again = AccessFile(file.path)

    assert Tokens(again, now=Wall()).find(text) == made
    again.close()


def test_two_processes_see_each_others_tokens(tokens: Tokens, file: AccessFile) -> None:
    """The daemon, and the command that works without it."""
    other = AccessFile(file.path)
    _, text = Tokens(other).add(TokenSpec(name="deploy", role=Role.OPERATE))
    other.close()

    assert tokens.find(text) is not None


@pytest.mark.parametrize("content", [b"no database" * 100, None], ids=["damaged", "a directory"])
def test_a_file_that_cannot_be_used_is_an_error_until_it_can(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "access.db"
    path.write_bytes(content) if content else path.mkdir()
    file = AccessFile(path)
    tokens = Tokens(file)
    for _ in range(2):
        with pytest.raises(StoreError, match=r"access\.db"):
            tokens.find("xdpd_0_0")

    path.unlink() if content else path.rmdir()

    assert tokens.find("xdpd_0_0") is None
    file.close()
