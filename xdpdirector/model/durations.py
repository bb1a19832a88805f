# SPDX-License-Identifier: Apache-2.0
"""Spans of time as people write them. Pure."""

from __future__ import annotations

import math
import re

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, None: 1.0}
DURATION = r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)?"
_WRITTEN = re.compile(DURATION)
_NOTHING = 1e-4  # milliseconds, for what binary fractions lose


def parse_duration(value: object) -> float:
    """Seconds from `300ms`, `2s`, `1.5m` or a plain number of seconds; ValueError otherwise. What is less than a
    millisecond is left out, so that a time survives being written."""
    if isinstance(value, bool):
        raise ValueError("write a duration like 300ms, 2s or 5m")
    match = _WRITTEN.fullmatch(str(value))
    if not match:
        raise ValueError(f"'{value}' is not a duration: write it like 300ms, 2s or 5m")
    milliseconds = float(match[1]) * _UNITS[match[2]] * 1000
    return math.floor(milliseconds + _NOTHING) / 1000 if math.isfinite(milliseconds) else math.inf


def format_duration(seconds: float) -> str:
    """The shortest exact spelling that `parse_duration` reads back."""
    milliseconds = round(seconds * 1000)
    if milliseconds % 1000:
        return f"{milliseconds}ms"
    return f"{milliseconds // 1000}s"
