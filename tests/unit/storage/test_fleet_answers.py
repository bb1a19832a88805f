# SPDX-License-Identifier: Apache-2.0
"""Answers to an Idempotency-Key in a real etcd: what one director answered, another answers again."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.etcd import Etcd, needed
from xdpdirector.errors import StoreError
from xdpdirector.model.store import StoreSpec
from xdpdirector.storage.etcd.fleet_answers import LARGEST, FleetAnswers
from xdpdirector.storage.etcd.gateway import Gateway, put
from xdpdirector.storage.idempotency_store import Answer, PassingAnswers

pytestmark = needed
CREATED = Answer("request", 201, {"etag": '"x"'}, b"\xff\x00{}")


def of_director(spec: StoreSpec, most: int = 100) -> FleetAnswers:
    return FleetAnswers(Gateway(spec), spec.prefix, PassingAnswers(), most=most)


def test_what_one_answered_another_knows(spec: StoreSpec) -> None:
    one, two = of_director(spec), of_director(spec)
    assert two.find("key") is None

    one.keep("key", CREATED)

    assert one.find("key") == two.find("key") == CREATED
    assert two.find("ke") is None


def test_it_is_kept_for_a_day_and_no_longer(spec: StoreSpec, etcd: Etcd) -> None:
    of_director(spec).keep("key", CREATED)

    leases = etcd.members[0].ask("/v3/lease/leases", {})["leases"]
    assert isinstance(leases, list)
    ids = [each["ID"] for each in leases]
    kept = [etcd.members[0].ask("/v3/lease/timetolive", {"ID": each, "keys": True}) for each in ids]
    assert {each["grantedTTL"] for each in kept if each.get("keys")} == {"86400"}


def test_of_too_many_the_oldest_go(spec: StoreSpec) -> None:
    for number in range(8):
        of_director(spec, most=5).keep(f"key{number}", CREATED)

    fresh = of_director(spec)
    assert [fresh.find(f"key{number}") is not None for number in range(8)] == [False] * 3 + [True] * 5


def test_a_large_one_stays_where_it_was_made(spec: StoreSpec) -> None:
    one, two = of_director(spec), of_director(spec)
    large = Answer("request", 200, {}, bytes(LARGEST + 1))

    one.keep("key", large)

    assert one.find("key") == large
    assert two.find("key") is None


def test_what_cannot_be_read_is_no_answer(spec: StoreSpec) -> None:
    Gateway(spec).transaction([], [put(f"{spec.prefix}/answers/key", b'{"of": "another release"}')])

    assert of_director(spec).find("key") is None


def test_without_etcd_a_director_knows_its_own(tmp_path: Path) -> None:
    with Etcd(tmp_path) as etcd:
        answers = of_director(etcd.spec())
        answers.keep("key", CREATED)
        etcd.kill()

        assert answers.find("key") == CREATED
        assert answers.find("other") is None
        with pytest.raises(StoreError, match="etcd"):
            answers.keep("new", CREATED)
        assert answers.find("new") == CREATED
