# SPDX-License-Identifier: Apache-2.0
"""Who wants a change, why, and only if what. Knows nothing of what is changed, nor of HTTP."""

from __future__ import annotations

from dataclasses import dataclass

from xdpdirector.errors import StaleError


@dataclass(frozen=True)
class Intent:
    """`reason` is kept beside the revision. `expected`: tags (`xdpdirector.tags`) of which what is to be changed
    must have one, so that nobody overwrites what he has not seen; None: whatever it is."""

    author: str
    reason: str = ""
    expected: frozenset[str] | None = None

    def require(self, thing: str, tag: str) -> None:
        """StaleError when `thing`, which has `tag` now, is not what was expected."""
        if self.expected is not None and tag not in self.expected:
            raise StaleError(
                f"{thing} is not what it was when you read it: somebody changed it since. Read it again, see "
                "whether your change still fits, and send it with the new ETag"
            )

    def because(self, what: str) -> str:
        """What was done, and why, in a line."""
        return f"{what}: {self.reason}" if self.reason else what
