# SPDX-License-Identifier: Apache-2.0
"""Real requests through the VIPs."""

from __future__ import annotations

from collections import Counter

from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import TARGETS

REQUESTS = 6


def answers(lab: Lab) -> Counter[str]:
    """Which backend answered how often: some requests to each VIP, with curl; every one must be answered."""
    seen: Counter[str] = Counter()
    for target in TARGETS:
        urls = [f"http://{target}/who"] * REQUESTS
        line = ["curl", "--silent", "--show-error", "--fail", "--max-time", "20", "--no-keepalive"]
        text = lab.client.run(*line, "--header", "Connection: close", *urls, timeout=120).stdout
        seen.update(text.split())
    return seen
