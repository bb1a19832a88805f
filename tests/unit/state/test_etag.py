# SPDX-License-Identifier: Apache-2.0
"""ETags follow changes without looking at all services again, and say the same as if they had."""

import random

from xdpdirector.model import ServiceSpec
from xdpdirector.state.edits import FEW, touched
from xdpdirector.state.etag import Tags

Services = dict[str, ServiceSpec]


def spec(weight: int = 1) -> ServiceSpec:
    return ServiceSpec.model_validate(
        {"listeners": ["192.0.2.10:80/tcp"], "backends": {"a": {"address": "192.0.2.21", "weight": weight}}}
    )


def changed(chance: random.Random, services: Services) -> Services:
    name = f"service{chance.randrange(20)}"
    if chance.random() < 0.3:
        return {other: each for other, each in services.items() if other != name}
    return {**services, name: spec(chance.randrange(3))}


def test_the_tag_after_many_changes_is_that_of_what_stands() -> None:
    chance, services, tags = random.Random(7), Services(), Tags()
    for _ in range(100):
        services = changed(chance, services)
        tags = tags.following(services)

        assert tags.of_all(services) == Tags().of_all(services)
        shuffled = chance.sample(list(services.items()), len(services))
        assert tags.of_all(services) == Tags().of_all(dict(shuffled))


def test_the_tag_distinguishes_what_differs() -> None:
    states: list[Services] = [
        {},
        {"a": spec()},
        {"a": spec(2)},
        {"b": spec()},
        {"a": spec(), "b": spec(2)},
        {"a": spec(2), "b": spec()},
    ]

    assert len({Tags().of_all(services) for services in states}) == len(states)


def test_a_change_that_failed_leaves_the_tags_as_they_were() -> None:
    before = {"a": spec()}
    tags = Tags().following(before)
    tags.following({"a": spec(2), "b": spec()})

    assert tags.of_all(before) == Tags().of_all(before)
    assert tags.of_service("a", before["a"]) == Tags().of_service("a", before["a"])


def test_what_differs_is_found_whoever_asked_for_what_before() -> None:
    chance, kept = random.Random(3), [Services()]
    for _ in range(30):
        kept.append(changed(chance, kept[-1]))
    for _ in range(300):
        before, after = chance.choice(kept), chance.choice(kept)

        changed_or_new = [name for name in after if before.get(name) is not after[name]]
        assert list(touched(before, after)) == [
            *changed_or_new,
            *(name for name in before if name not in after),
        ]


def test_more_than_a_few_that_differ_are_found_again_and_again() -> None:
    before = {f"service{number}": spec() for number in range(2 * FEW)}
    after = {name: spec(2) for name in reversed(before)}

    for _ in range(2):
        assert list(touched(before, after)) == list(after)
        assert list(touched(after, {})) == list(after)
