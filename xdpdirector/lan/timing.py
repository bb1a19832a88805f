# SPDX-License-Identifier: Apache-2.0
"""Rates and waiting times of probes. Values only, in seconds."""

from __future__ import annotations

from typing import NamedTuple


class Pace(NamedTuple):
    """`answer`: how long to wait for one; a LAN needs a few milliseconds. `to_one`, `to_all`: between two
    probes to a single machine, and to all. `judging`: delay from an event to the judgement. `neighbours`: how
    long a backend may be without a MAC, since a kernel that resolves many at once takes a moment. `searches`:
    between two searches for one address."""

    answer: float = 0.3
    to_one: float = 0.01
    to_all: float = 0.1
    judging: float = 0.2
    neighbours: float = 1.0
    searches: float = 1.0
