# SPDX-License-Identifier: Apache-2.0
"""A change that is only tried: the plan of what it would do, and how one gets out of it without doing it. Pure."""

from __future__ import annotations

from typing import Any

from xdpdirector.config.json_pointer import pointer
from xdpdirector.state.diff import Affected, Difference, Missing


class DryRunError(Exception):
    """No error: the way out of a change that is sound, and is only tried. What it would do is in it."""

    def __init__(
        self,
        changes: tuple[Difference, ...],
        affected: tuple[Affected, ...] = (),
        missing: tuple[Missing, ...] = (),
    ) -> None:
        super().__init__("only tried")
        self.changes, self.affected, self.missing = changes, affected, missing


def beside(
    collection: str, name: object, before: dict[str, Any] | None, after: dict[str, Any] | None
) -> Difference:
    """Of what is none of the services: a denied prefix, a token."""
    place = pointer(*collection.split("/"), str(name))
    if before is None:
        return Difference(action="added", pointer=place, after=after)
    return Difference(
        action="removed" if after is None else "changed", pointer=place, before=before, after=after
    )
