# SPDX-License-Identifier: Apache-2.0
"""The result of a dry run, and the exception that carries it out of the change. Pure."""

from __future__ import annotations

from typing import Any

from xdpdirector.config.json_pointer import pointer
from xdpdirector.state.diff import Affected, Difference, Missing


class DryRunError(Exception):
    """No error: ends a valid change that is a dry run, and carries what it would do."""

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
    """The difference of an object that is no service: a denied prefix, a token."""
    place = pointer(*collection.split("/"), str(name))
    if before is None:
        return Difference(action="added", pointer=place, after=after)
    return Difference(
        action="removed" if after is None else "changed", pointer=place, before=before, after=after
    )
