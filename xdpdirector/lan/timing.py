# SPDX-License-Identifier: Apache-2.0
"""How fast the network is asked, and how long one waits for it. Values only; all in seconds."""

from __future__ import annotations

from typing import NamedTuple


class Pace(NamedTuple):
    """`answer`: how long one may take; a LAN needs a few milliseconds. `to_one`, `to_all`: between two questions
    to a single machine, and to all. `judging`: within which news become findings. `neighbours`: how long a backend
    may be without a MAC, as a kernel that resolves many at once takes a moment. `searches`: between two searches
    for one address."""

    answer: float = 0.3
    to_one: float = 0.01
    to_all: float = 0.1
    judging: float = 0.2
    neighbours: float = 1.0
    searches: float = 1.0
