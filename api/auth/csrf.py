# SPDX-License-Identifier: Apache-2.0
"""What a browser may be used for: requests of the dashboard's own pages, and none of other sites' pages.

A browser sends along who its user is, a session's cookie or a forwarded socket, whichever site made the request. So
who is not named by a token must ask this host by a name that is its own (DNS rebinding), from its own pages (CSRF).
Knows headers, no sessions and no routes.
"""

from __future__ import annotations

from ipaddress import ip_address

from starlette.datastructures import Headers

from xdpdirector.errors import NotAllowedError

OWN_HEADER = "x-xdpdirector-dashboard"
"""With each change that a session makes: other sites' pages cannot send it."""
_OWN_SITE = frozenset({"same-origin", "none"})
_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


def require_own_host(scheme: str, headers: Headers) -> None:
    """NotAllowedError if the host name may be another's that resolves to this address (DNS rebinding).

    Such a name is one of the public DNS: it has a dot and is no address. Over TLS the certificate's names count,
    which the browser compares."""
    name = _name(headers.get("host", ""))
    if scheme == "http" and "." in name and not _is_address(name) and not name.endswith(".localhost"):
        raise NotAllowedError(
            f"The name '{name[:80]}' is not one of this host without TLS: use its address, or localhost."
        )


def require_own_page(method: str, headers: Headers) -> None:
    """NotAllowedError when a page of another site made the request. Programs send nothing of that."""
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    is_own = site in _OWN_SITE if site is not None else _is_of(origin, headers.get("host", ""))
    if site == "none" and method not in _SAFE:
        is_own = False
    if not is_own:
        raise NotAllowedError("A page of another site made this request: use the dashboard's own pages.")


def require_own_header(method: str, headers: Headers) -> None:
    """NotAllowedError when a session's request would change something and was not made by the dashboard."""
    if method not in _SAFE and OWN_HEADER not in headers:
        raise NotAllowedError(f"With a session a change needs the header '{OWN_HEADER}: 1'.")


def cookie_name(scheme: str, headers: Headers) -> str:
    """Browsers send cookies to every port of a host, on each of which there may be another director."""
    _, colon, port = headers.get("host", "").rpartition(":")
    name = f"xdpdirector-{port if colon and port.isascii() and port.isdigit() else 'default'}"
    return f"__Host-{name}" if scheme == "https" else name


def _is_of(origin: str | None, host: str) -> bool:
    return origin is None or origin.rpartition("//")[2].lower() == host.lower()


def _name(host: str) -> str:
    """Without its port, and without the dot of the root."""
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().rstrip(".")


def _is_address(name: str) -> bool:
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
