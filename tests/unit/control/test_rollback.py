# SPDX-License-Identifier: Apache-2.0
"""Revisions and rollbacks: each change is a revision, and a rollback is a new one."""

from __future__ import annotations

import asyncio

import pytest

import tests.support.stage as s
from tests.support.stage import (
    CHANGED,
    ME,
    Stage,
    mail,
    story,
    web_stage,
)
from xdpdirector.errors import (
    ConflictError,
    NotFoundError,
    StaleError,
)
from xdpdirector.state.change_request import Intent


@story
async def test_a_stale_change_is_refused_under_the_lock() -> None:
    """Both have read the same; who comes second has not seen what the first one did."""
    async with web_stage() as stage:
        seen = Intent("me", expected=frozenset({stage.director.tag("web", "web1")}))
        changes = [
            stage.director.patch_backend("web", "web1", {"weight": weight}, intent=seen) for weight in (2, 3)
        ]

        first, second = await asyncio.gather(*changes, return_exceptions=True)

        assert not isinstance(first, BaseException)
        assert isinstance(second, StaleError)
        assert stage.wanted()["web"].backends["web1"].weight == 2


@pytest.mark.parametrize("dry_run", [True, False], ids=["planned", "done"])
@story
async def test_a_configuration_that_was_changed_since_is_not_overwritten(dry_run: bool) -> None:
    async with web_stage() as stage:
        seen = Intent("me", expected=frozenset({stage.director.tag()}))
        await stage.director.patch_backend("web", "web1", {"weight": 2}, intent=ME)

        with pytest.raises(StaleError, match="Read it again"):
            await stage.director.configuration.apply(CHANGED, intent=seen, dry_run=dry_run)


@story
async def test_tags_are_those_of_what_is_wanted() -> None:
    async with Stage(web=s.service("web1", "web2"), mail=mail("web3")) as stage:
        director = stage.director

        def tags() -> list[str]:
            return [
                director.tag(*place) for place in [(), ("web",), ("web", "web1"), ("web", "web2"), ("mail",)]
            ]

        before = tags()
        await director.patch_backend("web", "web1", {"weight": 2}, intent=ME)
        changed = tags()
        await director.patch_backend("web", "web1", {"weight": 1}, intent=ME)

        assert [old == new for old, new in zip(before, changed, strict=True)] == [
            False,
            False,
            False,
            True,
            True,
        ]
        assert tags() == before
        with pytest.raises(NotFoundError):
            director.tag("shop")


@story
async def test_a_rollback_is_a_new_revision_with_the_old_content() -> None:
    async with web_stage() as stage:
        configuration = stage.director.configuration
        await stage.director.patch_backend("web", "web1", {"weight": 2}, intent=ME)
        await configuration.apply(CHANGED, intent=ME)

        planned = await configuration.roll_back(1, intent=ME, dry_run=True)
        done = await configuration.roll_back(1, intent=Intent("me", "it was better"))

        assert planned.changes == done.changes
        assert (planned.revision, done.revision) == (2, 3)
        assert stage.history.revisions[2].services == stage.history.revisions[0].services
        assert stage.history.revisions[2].reason == "roll back to revision 1: it was better"
        assert stage.wanted() == stage.history.revisions[0].services


@story
async def test_revisions_say_what_they_changed() -> None:
    async with web_stage() as stage:
        configuration = stage.director.configuration
        await stage.director.patch_backend("web", "web1", {"weight": 2}, intent=ME)
        await stage.director.patch_backend("web", "web1", {"weight": 3}, intent=ME)

        listed = configuration.summaries(before=None, limit=10)
        shown = configuration.revision(2)

        assert [each.id for each in listed] == [2, 1]
        assert shown.services["web"].backends["web1"].weight == 3
        assert shown.changes
        [change] = shown.changes
        assert (change.pointer, change.before, change.after) == ("/services/web/backends/web1/weight", 2, 3)


@pytest.mark.parametrize("number", [0, 9])
@story
async def test_a_revision_that_is_not_kept_is_not_found(number: int) -> None:
    async with web_stage() as stage:
        with pytest.raises(NotFoundError, match=f"no revision {number}"):
            stage.director.configuration.revision(number)
        with pytest.raises(NotFoundError):
            await stage.director.configuration.roll_back(number, intent=ME)


@story
async def test_a_rollback_to_another_hash_of_a_ring_is_refused() -> None:
    async with web_stage(scheduler="sh") as stage:
        await stage.director.patch_service("web", {"scheduler": "wlc"}, intent=ME)
        await stage.director.patch_service("web", {"scheduler": "sh"}, intent=ME)
        await stage.director.patch_service("web", {"scheduler": "wlc"}, intent=ME)
        await stage.director.patch_service("web", {"scheduler": "mh"}, intent=ME)
        before = stage.shown()

        with pytest.raises(ConflictError, match="hashes clients' addresses and ports"):
            await stage.director.configuration.roll_back(2, intent=ME)

        assert stage.shown() == before
