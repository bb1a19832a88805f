# SPDX-License-Identifier: Apache-2.0
"""/v1/sessions: who is logged in at the dashboard. One logs in with a token or with the code of a login link, once.

What proves a session is in a cookie that no script can read, and in nothing else.
"""

from __future__ import annotations

import socket
from datetime import datetime
from functools import partial
from http import HTTPStatus
from typing import Annotated

from fastapi import Depends, Path, Request, Response, status
from pydantic import BaseModel, Field

from xdpdirector.api.auth import csrf
from xdpdirector.api.auth.auditing import reject_unauthenticated
from xdpdirector.api.auth.identity import Identity, Peer, holder_of
from xdpdirector.api.deps import AccessDep
from xdpdirector.api.http.request_models import Items
from xdpdirector.api.routers import TextRoute, new_router
from xdpdirector.errors import NotAllowedError, NotAuthenticatedError, NotFoundError
from xdpdirector.model.access import Endpoint, Role
from xdpdirector.model.fields import Frozen
from xdpdirector.storage.audit_log import Entry, Outcome
from xdpdirector.storage.sessions import LIFETIME, Holder, Session, SessionView
from xdpdirector.system.threads import to_its_end

OFF = "The dashboard is turned off: api.dashboard in the configuration."
router = new_router(prefix="/v1/sessions", tags=["access"], route_class=TextRoute)


class ByToken(Frozen):
    """The text of a token."""

    token: Annotated[str, Field(min_length=1, max_length=200)]


class ByCode(Frozen):
    """The code of a login link, which is used up."""

    code: Annotated[str, Field(min_length=1, max_length=200)]


class Caller(BaseModel):
    """Who asks, and what that one may do. `session`: that it asks with, if it does."""

    author: str
    role: Role
    session: SessionView | None = None


class LoginLink(BaseModel):
    """`path` begins a session, once, until it `expires`. `addresses`: where the API listens over TCP."""

    path: str
    expires: datetime
    addresses: tuple[str, ...]


async def _identity(request: Request) -> Identity:
    identity: Identity = request.state.identity
    return identity


IdentityDep = Annotated[Identity, Depends(_identity)]
SessionId = Annotated[str, Path(description="A session's id", examples=["0123456789ab"])]


@router.post("", status_code=status.HTTP_201_CREATED)
async def create_session(
    body: ByToken | ByCode, request: Request, response: Response, access: AccessDep
) -> Caller:
    """Log in: the answer's cookie is the session. 401 for what is no token, or no code any more."""
    if not access.spec.dashboard:
        raise NotFoundError(OFF)
    csrf.require_own_page("POST", request.headers)
    peer: Peer = getattr(request.state, "peer", Peer())
    holder = await to_its_end(partial(_holder, body, access))
    if holder is None:
        failed_logins = request.app.state.request_counts.failed_logins
        await reject_unauthenticated(access.audit, failed_logins, request, "create_session", peer)
        raise NotAuthenticatedError(
            "That is no valid token."
            if isinstance(body, ByToken)
            else "The login link is used up or has expired: `xdpdirector dashboard` makes another one."
        )
    session, text = await to_its_end(partial(_begun, access, holder, peer))
    scheme, headers = request.url.scheme, request.headers
    response.set_cookie(
        csrf.cookie_name(scheme, headers),
        text,
        max_age=round(LIFETIME.total_seconds()),
        path="/",
        secure=scheme == "https",
        httponly=True,
        samesite="strict",
    )
    response.headers["location"] = "/v1/sessions/current"
    response.headers["cache-control"] = "no-store"
    return Caller(author=holder.author, role=holder.role, session=session.view)


def _holder(body: ByToken | ByCode, access: AccessDep) -> Holder | None:
    if isinstance(body, ByCode):
        return access.sessions.use_code(body.code)
    token = access.tokens.find(body.token)
    return None if token is None else holder_of(token)


def _begun(access: AccessDep, holder: Holder, peer: Peer) -> tuple[Session, str]:
    """Written down before it is one."""
    entry = Entry(holder.author, str(holder.role), str(peer), "create_session", "POST /v1/sessions")
    attempt = access.audit.begin(entry)
    session, text = access.sessions.begin(holder, str(peer))
    outcome = Outcome(HTTPStatus.CREATED, reason=f"session {session.view.id}")
    access.audit.finish(attempt, outcome)
    return session, text


@router.get("")
async def list_sessions(access: AccessDep) -> Items[SessionView]:
    """Who is logged in at the dashboard, who was there last first."""
    return Items(items=access.sessions.list())


@router.get("/current")
async def get_current_session(identity: IdentityDep, access: AccessDep) -> Caller:
    """Who asks, and what that one may do."""
    found = [each for each in access.sessions.list() if each.id == identity.session]
    return Caller(author=identity.name, role=identity.role, session=found[0] if found else None)


@router.delete("/current", status_code=status.HTTP_204_NO_CONTENT)
async def end_session(identity: IdentityDep, request: Request, access: AccessDep) -> Response:
    """Log out. Nothing happens to who asks without a session."""
    if identity.session:
        await to_its_end(partial(access.sessions.end, identity.session))
    response = Response(status_code=status.HTTP_204_NO_CONTENT)
    scheme = request.url.scheme
    response.delete_cookie(
        csrf.cookie_name(scheme, request.headers),
        secure=scheme == "https",
        httponly=True,
        samesite="strict",
    )
    return response


@router.post("/links", status_code=status.HTTP_201_CREATED)
async def create_login_link(identity: IdentityDep, access: AccessDep, response: Response) -> LoginLink:
    """A link that logs in as who asks, once and soon. With a session there is none: it would outlive itself."""
    if not access.spec.dashboard:
        raise NotFoundError(OFF)
    if identity.holder is None:
        raise NotAllowedError("A session makes no login link: run `xdpdirector dashboard`, or use a token.")
    code, expires = access.sessions.make_code(identity.holder)
    path = f"/ui/#/login/{code}"
    response.headers["location"] = path
    response.headers["cache-control"] = "no-store"
    scheme = "https" if access.spec.tls else "http"
    addresses = tuple(f"{scheme}://{_reachable(each)}" for each in access.spec.listen)
    return LoginLink(path=path, expires=expires, addresses=addresses)


@router.delete("/{session}", status_code=status.HTTP_204_NO_CONTENT)
async def delete_session(session: SessionId, access: AccessDep) -> None:
    """End a session."""
    await to_its_end(partial(access.sessions.end, session))


def _reachable(endpoint: Endpoint) -> str:
    """All addresses of this host are none to go to."""
    if endpoint.address.is_unspecified:
        return f"{socket.gethostname()}:{endpoint.port}"
    return str(endpoint)
