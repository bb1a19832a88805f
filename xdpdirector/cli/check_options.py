# SPDX-License-Identifier: Apache-2.0
"""The options of a check on the command line, as a merge patch of the check. Values are not validated here.

http:/healthz                 type and its first option
dns:www.example.org           the same
--check-option status=[200]   any other option, its value as JSON or, when it is none, as text
"""

from __future__ import annotations

import json
from typing import Any

import typer

_TLS = ("server_name", "verify", "ca")
_HTTP = ("path", "host", "status", "body", "weight_header")
# What each type has beside the options of all; the first is what may follow the colon.
OPTIONS: dict[str, tuple[str, ...]] = {
    "tcp": (),
    "tls": (*_TLS, "min_days"),
    "http": _HTTP,
    "https": (*_HTTP, *_TLS),
    "smtp": ("hello", "tls", *_TLS),
    "pop3": ("tls", *_TLS),
    "imap": ("tls", *_TLS),
    "ftp": ("tls", *_TLS),
    "ldap": ("ask", "tls", *_TLS),
    "postgres": ("database", "user"),
    "mysql": ("user",),
    "dns": ("name", "query", "rcode", "answer", "transport"),
    "udp": ("send", "send_hex", "expect"),
    "icmp": (),
    "sctp": (),
    "agent": ("send",),
    "exec": ("command",),
}
_BY_ADDRESS = ("agent", "exec")
_EVERY = dict.fromkeys(name for names in OPTIONS.values() for name in names)


def check_patch(text: str | None, options: list[str] | None, **timing: Any) -> dict[str, Any] | None:
    """None for no change. Another type takes away what only others have, as the model refuses it there."""
    fields = {name: value for name, value in timing.items() if value is not None}
    fields |= dict(_option(option) for option in options or ())
    if text == "none" and fields:
        raise typer.BadParameter("--check none has no interval, timeout, rise, fall or options")
    if text is None or text == "none":
        return fields or None
    kind, colon, first = text.partition(":")
    names = OPTIONS.get(kind, ())
    if kind not in OPTIONS or (colon and not names):
        known = ", ".join(f"{each}[:{its[0]}]" if its else each for each, its in OPTIONS.items())
        raise typer.BadParameter(f"check '{text}' is not known: write one of {known}, or none")
    gone: dict[str, Any] = {name: None for name in _EVERY if name not in names}
    if kind in _BY_ADDRESS:
        gone["via"] = None
    if colon:
        gone[names[0]] = first.split() if kind == "exec" else first
    return {"type": kind} | gone | fields


def _option(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        raise typer.BadParameter(
            f"'{text}' is no option of a check: write it like verify=true or status=[200,204]"
        )
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value
