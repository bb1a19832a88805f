# SPDX-License-Identifier: Apache-2.0
"""JSON pointers (RFC 6901): how an error says where in a document it is."""

from __future__ import annotations


def pointer(*parts: str | int) -> str:
    """`pointer("services", "web", 0)` is `/services/web/0`; of nothing, the whole document: an empty text."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)
