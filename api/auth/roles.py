# SPDX-License-Identifier: Apache-2.0
"""Which role each operation of the API needs. What has no row is refused to everybody.

`read` reads; `operate` is the daily work on backends; `admin` changes services, the configuration and access.
Metrics and readiness show internal state, so they need `read`, also on loopback.
"""

from __future__ import annotations

from typing import Any

from xdpdirector.model.access import Role

BROWSERS = frozenset({"get_dashboard", "create_session"})
"""What a browser needs to log in."""
OPEN = frozenset({"get_liveness"}) | BROWSERS
"""For all who can connect."""

ROLES = {
    "openapi": Role.READ,
    "get_reference": Role.READ,
    "get_readiness": Role.READ,
    "get_metrics": Role.READ,
    "get_statistics": Role.READ,
    "list_connections": Role.READ,
    "get_guard": Role.READ,
    "list_denied": Role.READ,
    "get_denial": Role.READ,
    "create_denial": Role.OPERATE,
    "put_denial": Role.OPERATE,
    "delete_denial": Role.OPERATE,
    "replace_denied": Role.ADMIN,
    "list_services": Role.READ,
    "get_service": Role.READ,
    "list_backends": Role.READ,
    "list_all_backends": Role.READ,
    "drain_backends": Role.OPERATE,
    "enable_backends": Role.OPERATE,
    "maintain_backends": Role.OPERATE,
    "get_backend": Role.READ,
    "create_backend": Role.OPERATE,
    "put_backend": Role.OPERATE,
    "patch_backend": Role.OPERATE,
    "delete_backend": Role.OPERATE,
    "drain_backend": Role.OPERATE,
    "enable_backend": Role.OPERATE,
    "maintain_backend": Role.OPERATE,
    "create_service": Role.ADMIN,
    "replace_service": Role.ADMIN,
    "patch_service": Role.ADMIN,
    "delete_service": Role.ADMIN,
    "follow_events": Role.READ,
    "follow_present": Role.READ,
    "explain": Role.READ,
    "get_dataplane": Role.READ,
    "follow_decisions": Role.OPERATE,
    "get_lan": Role.READ,
    "get_doctor": Role.READ,
    "get_fleet": Role.READ,
    "get_director": Role.READ,
    "drain_director": Role.OPERATE,
    "enable_director": Role.OPERATE,
    "get_configuration": Role.READ,
    "check_configuration": Role.ADMIN,
    "list_revisions": Role.READ,
    "get_revision": Role.READ,
    "replace_configuration": Role.ADMIN,
    "roll_back": Role.ADMIN,
    "list_audit": Role.OPERATE,
    "get_current_session": Role.READ,
    "end_session": Role.READ,
    "create_login_link": Role.READ,
    "list_sessions": Role.ADMIN,
    "delete_session": Role.ADMIN,
    "list_tokens": Role.ADMIN,
    "create_token": Role.ADMIN,
    "delete_token": Role.ADMIN,
}
ASKING = frozenset({"explain", "check_configuration"})
"""Operations that are POST because their query has a body. All others that are not GET change something."""

OF_ONESELF = frozenset({"end_session", "create_login_link"})
"""Operations that change only the client's own login."""

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def security(operation: str) -> dict[str, Any]:
    """What the OpenAPI document says of it: the unix socket needs no token."""
    if operation in OPEN:
        return {"security": []}
    role = ROLES.get(operation)
    return {"security": [{"token": []}, {}]} | ({"x-role": str(role)} if role else {})


def changes(operation: str, method: str) -> bool:
    """Whether it belongs into the audit."""
    return method not in _SAFE and operation not in ASKING
