# SPDX-License-Identifier: Apache-2.0
"""Spans of time as people write them. Pure."""

from __future__ import annotations

import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|)")


def parse_duration(value: object) -> float:
    """Seconds from `300ms`, `2s`, `1.5m` or a plain number of seconds; ValueError otherwise."""
    if isinstance(value, bool):
        raise ValueError("write a duration like 300ms, 2s or 5m")
    match = _DURATION.fullmatch(str(value).strip())
    if not match:
        raise ValueError(f"'{value}' is not a duration: write it like 300ms, 2s or 5m")
    return float(match[1]) * _UNITS[match[2]]


def format_duration(seconds: float) -> str:
    """The shortest exact spelling that `parse_duration` reads back."""
    milliseconds = round(seconds * 1000)
    if milliseconds % 1000:
        return f"{milliseconds}ms"
    return f"{milliseconds // 1000}s"
