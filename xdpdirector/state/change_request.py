# SPDX-License-Identifier: Apache-2.0
"""Author, reason and preconditions of a change. Knows nothing of what is changed, nor of HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from xdpdirector.errors import StaleError


@dataclass(frozen=True)
class Intent:
    """`reason` is stored with the revision. `dry_run`: only report what the change would do.

    Preconditions, by ETag (`xdpdirector.state.etag`), so that no client overwrites a state that it has not read.
    `expected`: the target must have one of these ETags; None: any. `unwanted`: it must have none of these.
    `only_present`: it must exist. `only_new`: it must not exist.
    """

    author: str
    reason: str = ""
    expected: frozenset[str] | None = None
    unwanted: frozenset[str] = frozenset()
    only_present: bool = False
    only_new: bool = False
    dry_run: bool = False

    def require(self, thing: str, tag: str) -> None:
        """StaleError when `thing`, which exists and has `tag` now, is not what was expected."""
        self.require_new(thing, tag)
        if tag in self.unwanted or (self.expected is not None and tag not in self.expected):
            raise StaleError(
                f"{thing} is not what it was when you read it: somebody changed it since. Read it again, see "
                "whether your change still fits, and send it with the new ETag"
            )

    def require_new(self, thing: str, tag: str | None) -> None:
        """StaleError for what exists (it has a `tag`) and was expected not to."""
        if self.only_new and tag is not None:
            raise StaleError(f"{thing} exists already, and was only to be created: read it, or change it")

    def require_absent(self, thing: str) -> None:
        """`thing` does not exist, and is created: StaleError when it was expected to."""
        if self.expected is not None or self.only_present:
            raise StaleError(
                f"{thing} does not exist, and was only to be changed: create it without If-Match"
            )

    def because(self, what: str) -> str:
        """What was done, and why, in a line."""
        return f"{what}: {self.reason}" if self.reason else what
