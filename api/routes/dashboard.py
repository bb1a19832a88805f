# SPDX-License-Identifier: Apache-2.0
"""/ui/: the dashboard's files, as `./lab dashboard` builds them from web/. Everybody may have them: they hold no
secrets, and who wants to see anything with them has to log in.

Knows files and headers; nothing of what the pages do.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from types import MappingProxyType

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse, RedirectResponse

from xdpdirector.api.deps import AccessDep
from xdpdirector.api.routers import new_router
from xdpdirector.api.routes.sessions import OFF
from xdpdirector.errors import NotFoundError
from xdpdirector.system.files import Fingerprint, fingerprint

PLACE = Path(__file__).parents[1] / "static"
INDEX = "index.html"
NOT_BUILT = "The dashboard is not built in this checkout: run `./lab dashboard`, then load this page again.\n"
_KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_ENCODINGS = (("br", ".br"), ("gzip", ".gz"))
_HASHED = re.compile(r".+-[A-Z0-9]{8}\.(js|css)")
HEADERS = {
    "content-security-policy": (
        "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; object-src 'none'"
    ),
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "x-frame-options": "DENY",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}

router = new_router(include_in_schema=False)


@dataclass(frozen=True)
class File:
    """`encoded`: by content coding, as they were compressed when it was built."""

    content: bytes
    encoded: Mapping[str, bytes]
    kind: str
    cache: str

    @property
    def tag(self) -> str:
        return f'"{hashlib.sha256(self.content).hexdigest()[:16]}"'


class Files:
    """The files in `place`, kept in memory until they are built again."""

    def __init__(self, place: Path = PLACE) -> None:
        self._place = place
        self._state: Fingerprint | None = None
        self._files: Mapping[str, File] = MappingProxyType({})

    def find(self, name: str) -> File | None:
        """Of a name as it stands in a path; no other name leads to a file."""
        state = fingerprint(self._place / INDEX)
        if state != self._state:
            self._state, self._files = state, self._read()
        return self._files.get(name)

    def _read(self) -> dict[str, File]:
        if not self._place.is_dir():
            return {}
        return {
            path.name: File(
                path.read_bytes(),
                {
                    coding: packed.read_bytes()
                    for coding, suffix in _ENCODINGS
                    if (packed := path.with_name(path.name + suffix)).exists()
                },
                _KINDS[path.suffix],
                _cache(path.name),
            )
            for path in self._place.iterdir()
            if path.suffix in _KINDS
        }


def _cache(name: str) -> str:
    if name == INDEX:
        return "no-store"
    return "public, max-age=31536000, immutable" if _HASHED.fullmatch(name) else "no-cache"


@router.get("/ui", response_class=Response, name="get_dashboard")
@router.get("/ui/{name:path}", response_class=Response, name="get_dashboard")
async def get_dashboard(request: Request, access: AccessDep, name: str = "") -> Response:
    """A file of the dashboard."""
    if not access.spec.dashboard:
        raise NotFoundError(OFF)
    if request.url.path == "/ui":
        return RedirectResponse("/ui/", HTTPStatus.PERMANENT_REDIRECT, HEADERS)
    files: Files = request.app.state.dashboard
    file = files.find(name or INDEX)
    if file is None and files.find(INDEX) is None:
        return PlainTextResponse(NOT_BUILT, HTTPStatus.SERVICE_UNAVAILABLE, HEADERS)
    if file is None:
        raise NotFoundError("The dashboard has no such file: reload the page.")
    headers = {**HEADERS, "cache-control": file.cache, "etag": file.tag, "vary": "accept-encoding"}
    if file.tag in request.headers.get("if-none-match", ""):
        return Response(status_code=HTTPStatus.NOT_MODIFIED, headers=headers)
    content, accepted = file.content, request.headers.get("accept-encoding", "")
    for coding, packed in file.encoded.items():
        if re.search(rf"\b{coding}\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", accepted):
            content, headers["content-encoding"] = packed, coding
            break
    return Response(content, headers=headers, media_type=file.kind)
