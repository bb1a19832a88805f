# SPDX-License-Identifier: Apache-2.0
"""ETags and the conditions on them (RFC 9110, sections 8.8 and 13).

An ETag is strong and names what is wanted, not what is seen: health and counters change without it. So it serves
`If-Match` everywhere, and `If-None-Match` only where an answer holds desired state only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from fastapi import Request, Response, status

_GAP = re.compile(r"[\s,]*")
_TAG = re.compile(r'(W/)?"([\x21\x23-\x7e\x80-\xff]*)"')
_END = re.compile(r"\s*(?:,|$)")


def etag(tag: str) -> str:
    return f'"{tag}"'


def whole(request: Request, name: str) -> str | None:
    """A header that is a list, with all its lines."""
    lines = request.headers.getlist(name)
    return ", ".join(lines) if lines else None


def is_any(field: str | None) -> bool:
    """Whether it speaks of whatever is there."""
    return field is not None and field.strip() == "*"


def expected(field: str | None) -> frozenset[str] | None:
    """The tags in an If-Match; None when anything may be there (`*`, or no such header). Weak tags never match, and
    what is no list of tags has none."""
    if field is None or is_any(field):
        return None
    return frozenset(tag for weak, tag in _tags(field) if not weak)


def unwanted(field: str | None) -> frozenset[str]:
    """The tags in an If-None-Match; `*` is none."""
    return frozenset() if field is None or is_any(field) else frozenset(tag for _, tag in _tags(field))


def unchanged(request: Request, tag: str, headers: Mapping[str, str]) -> Response | None:
    """304 when the client has what `tag` names already; `headers` are those that 200 would have."""
    field = whole(request, "if-none-match")
    if field is None or not (field.strip() == "*" or tag in {known for _, known in _tags(field)}):
        return None
    return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers={"etag": etag(tag), **headers})


def _tags(field: str) -> list[tuple[str, str]]:
    """Each character is looked at a few times at most, however many there are."""
    found, place = [], 0
    while (place := _end_of(_GAP.match(field, place))) < len(field):
        tag = _TAG.match(field, place)
        end = tag and _END.match(field, tag.end())
        if tag and end:
            found.append((tag[1] or "", tag[2]))
            place = end.end()
        else:  # what stands there is no tag: go on behind the next comma
            comma = field.find(",", tag.end() if tag else place)
            place = len(field) if comma < 0 else comma
    return found


def _end_of(found: re.Match[str] | None) -> int:
    assert found  # the gap may be empty
    return found.end()
