# SPDX-License-Identifier: Apache-2.0
"""Breaks the reference cycle of an asyncio transport whose connection has ended.

A socket's transport refers to itself by a bound method (CPython, Lib/asyncio/selector_events.py), and would stay
until the garbage collector finds it. Knows no protocol.
"""

from __future__ import annotations

import asyncio


def carrier(transport: asyncio.BaseTransport) -> asyncio.BaseTransport:
    """The socket's transport: below TLS, or the same one. To be asked while the connection lasts."""
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return below if isinstance(below, asyncio.BaseTransport) else transport


def release(transport: asyncio.BaseTransport) -> None:
    """To be called from `connection_lost`, for what `carrier` gave; others are left alone."""
    if getattr(transport, "_read_ready_cb", None) is not None:
        transport._read_ready_cb = None  # type: ignore[attr-defined]
