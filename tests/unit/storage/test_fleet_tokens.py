# SPDX-License-Identifier: Apache-2.0
"""The tokens of a fleet in a real etcd: made through one director, valid at all."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.support.etcd import Etcd, needed
from xdpdirector.errors import ConflictError, NotFoundError, StoreError
from xdpdirector.model.access import Role
from xdpdirector.model.fleet import DirectorReport
from xdpdirector.model.store import StoreSpec
from xdpdirector.state.dry_run import DryRunError
from xdpdirector.storage.access_db import AccessFile
from xdpdirector.storage.etcd.fleet_store import FleetStore
from xdpdirector.storage.etcd.fleet_tokens import FleetTokens
from xdpdirector.storage.etcd.gateway import Gateway, after_all
from xdpdirector.storage.fallback import FallbackStore
from xdpdirector.storage.store import MIRROR_FORMAT
from xdpdirector.storage.tokens import Tokens, TokenSpec

pytestmark = needed
DEPLOY = TokenSpec(name="deploy", role=Role.OPERATE)


@dataclass
class Member:
    """What a director has of tokens."""

    tokens: Tokens
    store: FleetStore

    def round(self) -> None:
        """What it does each second."""
        self.store.refresh()
        self.store.exchange(DirectorReport(name=self.store.director))


@contextlib.contextmanager
def member(spec: StoreSpec, directory: Path, name: str) -> Iterator[Member]:
    """As the daemon begins; it has not asked etcd yet."""
    directory = directory / name
    file = AccessFile(directory / "access.db")
    with (
        FallbackStore(directory / "fleet.db", directory / "spare", form=MIRROR_FORMAT) as mirror,
        contextlib.closing(file),
        contextlib.closing(FleetStore(Gateway(spec), spec.prefix, mirror, name)) as store,
    ):
        tokens = Tokens(file)
        shared = FleetTokens(store, tokens.store)
        tokens.keep_in(shared)
        store.before_exchange = shared.tell_uses
        yield Member(tokens, store)


@contextlib.contextmanager
def pair(spec: StoreSpec, directory: Path) -> Iterator[tuple[Member, Member]]:
    with member(spec, directory, "one") as one, member(spec, directory, "two") as two:
        one.round()
        two.round()
        yield one, two


def test_a_token_is_valid_at_all_until_it_is_removed_at_one(spec: StoreSpec, tmp_path: Path) -> None:
    with pair(spec, tmp_path) as (one, two):
        made, text = one.tokens.add(DEPLOY)
        assert one.tokens.find(text) == made

        two.round()
        found = two.tokens.find(text)
        assert found
        assert (found.name, found.role, found.created) == ("deploy", Role.OPERATE, made.created)
        assert two.tokens.of_session("deploy", made.created)
        assert two.tokens.any_valid()

        two.tokens.remove("deploy")
        assert two.tokens.find(text) is None
        one.round()
        assert one.tokens.find(text) is None
        with pytest.raises(NotFoundError):
            one.tokens.remove("deploy")


def test_a_name_is_taken_once(spec: StoreSpec, tmp_path: Path) -> None:
    with pair(spec, tmp_path) as members:

        def add(number: int) -> str:
            try:
                members[number % 2].tokens.add(TokenSpec(name=f"n{number // 4}", role=Role.READ))
            except ConflictError as error:
                return error.detail
            return ""

        with ThreadPoolExecutor(8) as pool:
            outcomes = list(pool.map(add, range(40)))

        assert [each for each in outcomes if each and "already" not in each] == []
        assert outcomes.count("") == 10
        for each in members:
            each.round()
            assert [token.name for token in each.tokens.list()] == [f"n{number}" for number in range(10)]


def test_a_directors_own_tokens_stay_its_own(spec: StoreSpec, tmp_path: Path) -> None:
    file = AccessFile(tmp_path / "one" / "access.db")
    with contextlib.closing(file):
        _, text = Tokens(file).add(DEPLOY)

    with pair(spec, tmp_path) as (one, two):
        assert one.tokens.find(text)
        assert one.tokens.find(text).last_used  # type: ignore[union-attr]
        assert two.tokens.find(text) is None
        with pytest.raises(ConflictError, match="there is a token 'deploy' already"):
            one.tokens.add(DEPLOY)
        with pytest.raises(NotFoundError):
            two.tokens.remove("deploy")
        one.tokens.remove("deploy")
        assert one.tokens.find(text) is None


def test_when_it_was_used_is_told(spec: StoreSpec, tmp_path: Path) -> None:
    with pair(spec, tmp_path) as (one, two):
        _, text = one.tokens.add(DEPLOY)
        two.round()
        assert two.tokens.find(text)
        two.round()
        one.round()
        [token] = one.tokens.list()
        assert token.last_used
        assert datetime.now(UTC) - token.last_used < timedelta(hours=1)


def test_what_is_only_tried_makes_nothing(spec: StoreSpec, tmp_path: Path) -> None:
    with pair(spec, tmp_path) as (one, _):
        with pytest.raises(DryRunError):
            one.tokens.add(DEPLOY, dry_run=True)
        assert one.tokens.list() == []


def test_no_text_is_in_etcd(spec: StoreSpec, tmp_path: Path) -> None:
    with pair(spec, tmp_path) as (one, _):
        _, text = one.tokens.add(DEPLOY)
    stored = Gateway(spec).range(f"{spec.prefix}/", after_all(f"{spec.prefix}/"))
    assert any(b"deploy" in each.value for each in stored)
    assert not any(text.split("_", 2)[2].encode() in each.value for each in stored)


def test_without_etcd_tokens_are_known_and_none_is_made(tmp_path: Path) -> None:
    with Etcd(tmp_path / "etcd") as etcd:
        with member(etcd.spec(), tmp_path, "one") as one:
            one.round()
            _, text = one.tokens.add(DEPLOY)
            etcd.kill()
            with pytest.raises(StoreError, match="etcd cannot be asked"):
                one.tokens.add(TokenSpec(name="other", role=Role.READ))
            assert one.tokens.find(text)
        with member(etcd.spec(), tmp_path, "one") as one:  # started from what it saw last
            assert one.tokens.find(text)
            assert one.tokens.any_valid()
