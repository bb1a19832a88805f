# SPDX-License-Identifier: Apache-2.0
"""What `ipvsadm -S -n` wrote as services: its lines are commands, and are carried out on a draft."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from xdpdirector.lvs.changes import Changes
from xdpdirector.lvs.command import PROGRAM, EndedError, parse
from xdpdirector.lvs.desired import Draft
from xdpdirector.lvs.documents import Document
from xdpdirector.lvs.imported import Imported, Origin
from xdpdirector.lvs.memory import Memory
from xdpdirector.lvs.names import Names

TAKEN = (
    "add-service",
    "edit-service",
    "delete-service",
    "clear",
    "add-server",
    "edit-server",
    "delete-server",
)
REMEDY = "Write it by hand, or leave it out"


def read(
    text: str, file: str, names: Names, *, fwmarks: Mapping[str, Sequence[str]] | None = None
) -> Imported:
    """`fwmarks`: what marks stand for; the rules cannot say."""
    draft = Draft({"interfaces": ["lo"], "lvs": {"fwmarks": dict(fwmarks or {})}})
    changes = Changes(draft, lambda version, others: None, Memory.unsaved())
    imported = Imported(services=draft.services)
    for number, line in enumerate(text.splitlines(), 1):
        words = _command(line)
        if not words or words[0].startswith("#"):
            continue
        origin = Origin(file, number, " ".join(words))
        try:
            command = parse(words, names)
            if command.name not in TAKEN:
                imported.leave(origin, "this command is no part of a configuration", REMEDY)
                continue
            before = {name: dict(each.get("backends", {})) for name, each in draft.services.items()}
            changes.run(command)
        except EndedError as error:
            why = error.text.removeprefix(f"{PROGRAM}: ").replace("\n", " ").rstrip(".")
            imported.leave(origin, why, REMEDY)
            continue
        _note(imported, origin, before, draft.services)
    for mark in _marks(draft, fwmarks or {}):
        imported.fwmarks[mark] = list((fwmarks or {})[mark])
    for service in draft.services.values():
        _without_defaults(service)
    return imported


def _command(line: str) -> list[str]:
    """Its words without the program, which scripts name in front, and do so by its path or as root."""
    words = line.split()
    if words[:1] == ["sudo"]:
        del words[0]
    if words and PurePosixPath(words[0]).name == PROGRAM:
        del words[0]
    return words


def _note(
    imported: Imported, origin: Origin, before: Mapping[str, Document], services: Mapping[str, Document]
) -> None:
    for name, service in services.items():
        if name not in before:
            imported.came_from((name,), origin)
        for backend, spec in service.get("backends", {}).items():
            if before.get(name, {}).get(backend) != spec:
                imported.came_from((name, "backends", backend), origin)


def _marks(draft: Draft, fwmarks: Mapping[str, Sequence[str]]) -> list[str]:
    return [
        mark for mark in fwmarks if any(name in draft.services for name in (f"fwm-{mark}", f"fwm6-{mark}"))
    ]


def _without_defaults(service: dict[str, Any]) -> None:
    """Labels that are only for ipvsadm's own output stay where they say something."""
    if not service.get("one_packet"):
        service.pop("one_packet", None)
    for spec in (service, *service["backends"].values()):
        if not spec.get("labels"):
            spec.pop("labels", None)
