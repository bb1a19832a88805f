# SPDX-License-Identifier: Apache-2.0
"""/v1/config and /v1/revisions: the configuration as a whole, and its past. No decision is made here."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Annotated

from fastapi import Path, Query, Request, Response
from pydantic import BaseModel, Field, JsonValue

from xdpdirector.api.deps import DirectorDep, IntentDep
from xdpdirector.api.director_interface import Control
from xdpdirector.api.http import pagination
from xdpdirector.api.http.etags import etag, unchanged
from xdpdirector.api.http.negotiation import JSON, chosen
from xdpdirector.api.http.read_queue import Reader, ReaderDep
from xdpdirector.api.http.request_models import AdminChange
from xdpdirector.api.idempotency import IdempotentDep, IdempotentRoute
from xdpdirector.api.routers import new_router
from xdpdirector.config import config_file
from xdpdirector.model import Configuration
from xdpdirector.model.fields import Frozen
from xdpdirector.state.diff import Plan, RevisionView

YAML = "application/yaml"
LARGEST_TEXT = 1 << 20

router = new_router(tags=["configuration"], route_class=IdempotentRoute)
Number = Annotated[int, Path(ge=1, le=pagination.MOST, description="A revision's number")]
RevisionCursor = Annotated[pagination.Cursor, pagination.of("revisions")]


class RevisionSummary(BaseModel):
    """A revision without what it says."""

    revision: int
    at: datetime
    author: str
    reason: str


class Text(Frozen):
    """A configuration as its file says it."""

    yaml: Annotated[str, Field(max_length=LARGEST_TEXT)]


class TextFault(BaseModel):
    """`line` and `column` count from 1."""

    line: int
    column: int
    pointer: str
    detail: str


class Checked(BaseModel):
    """`document`: what the text says, as PUT takes it; null where there are faults."""

    document: JsonValue
    faults: list[TextFault]


class Reason(AdminChange):
    """Why it is rolled back."""


@router.get(
    "/v1/config",
    response_model=Configuration,
    response_model_exclude_none=True,
    responses={200: {"content": {YAML: {}}}, 304: {"description": "It is what If-None-Match names"}},
)
async def get_configuration(director: DirectorDep, request: Request, reader: ReaderDep) -> Response:
    """All that is wanted, in the form of the configuration file: JSON, or YAML where that is accepted."""
    kind, tag = chosen(request, [JSON, YAML]), director.tag()
    headers = {"etag": etag(tag), "vary": "accept"}
    known = unchanged(request, tag, headers)
    if known is not None:
        return known
    wanted = director.configuration.document()

    def write() -> str:
        return config_file.as_yaml(wanted) if kind == YAML else wanted.model_dump_json(exclude_none=True)

    return Response(await reader.read(write), media_type=kind, headers=headers)


@router.put("/v1/config", response_model=Plan)
async def replace_configuration(
    body: Configuration,
    director: DirectorDep,
    intent: IntentDep,
    reader: ReaderDep,
) -> Response:
    """Make this all that is wanted: what it leaves out goes. All of it or nothing; answers when the maps hold it.

    `interfaces` and the other parts beside `services` cannot change while the daemon runs (409). The admin state of
    a backend stays where the document does not state one.
    """
    await asyncio.sleep(
        0
    )  # the framework has looked at it again, which may have been long; so is what follows
    plan = await director.configuration.apply(body, intent=intent, dry_run=intent.dry_run)
    return await _written(plan, director, reader)


@router.post("/v1/config/check")
async def check_configuration(body: Text, reader: ReaderDep) -> Checked:
    """What is wrong with a YAML text as a configuration, each fault with its line and column. Nothing is changed,
    and nothing is compared with what is wanted: PUT with `dry_run` does that with `document`."""
    said, faults = await reader.read(lambda: config_file.checked(body.yaml))
    return Checked(
        document=said,
        faults=[
            TextFault(line=each.line, column=each.column, pointer=each.pointer, detail=each.sentence)
            for each in faults
        ],
    )


@router.get("/v1/revisions")
async def list_revisions(
    director: DirectorDep,
    cursor: RevisionCursor | None = None,
    limit: Annotated[int, Query(ge=1, le=1000, description="At most so many")] = 100,
) -> pagination.Page[RevisionSummary]:
    """Who changed what is wanted, when and why; the newest first."""
    found = director.configuration.summaries(before=cursor, limit=limit + 1)
    items = [
        RevisionSummary(revision=each.id, at=each.at, author=each.author, reason=each.reason)
        for each in found
    ]
    place = items[:limit][-1].revision if items else 0
    return pagination.page("revisions", items, limit, place, director.events.last)


@router.get("/v1/revisions/{revision}", response_model=RevisionView)
async def get_revision(revision: Number, director: DirectorDep, reader: ReaderDep) -> Response:
    """What was wanted then, and what that changed."""

    def write() -> str:
        return director.configuration.revision(revision).model_dump_json(by_alias=True)

    return Response(await reader.read(write), media_type=JSON)


@router.post("/v1/revisions/{revision}/rollback", response_model=Plan, dependencies=[IdempotentDep])
async def roll_back(
    revision: Number,
    director: DirectorDep,
    intent: IntentDep,
    reader: ReaderDep,
    body: Reason | None = None,
) -> Response:
    """Want again what was wanted then, admin states included: a new revision."""
    if body and body.reason:
        intent = replace(intent, reason=body.reason)
    plan = await director.configuration.roll_back(revision, intent=intent, dry_run=intent.dry_run)
    return await _written(plan, director, reader)


async def _written(plan: Plan, director: Control, reader: Reader) -> Response:
    """Beside the loop, without a queue limit: the change is made. It may have thousands of entries."""
    tag = etag(director.tag())
    return Response(await reader.read_at_last(plan.model_dump_json), media_type=JSON, headers={"etag": tag})
