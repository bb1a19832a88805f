# SPDX-License-Identifier: Apache-2.0
"""Parses the share of its weight that a server requests: `75%`. Pure."""

from __future__ import annotations

import re

MOST = 10.0  # times its weight


def share_of(text: str) -> float | None:
    """0.75 for `75%`; None if it is not a percentage, or above 1000 %."""
    match = re.fullmatch(r"\s*(\d{1,4}(?:\.\d{1,3})?)\s*%\s*", text)
    share = float(match[1]) / 100 if match else None
    return share if share is not None and share <= MOST else None
