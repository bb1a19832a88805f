# SPDX-License-Identifier: Apache-2.0
"""Sizes of maps that tests share: each other one is a compilation of five seconds."""

from __future__ import annotations

from xdpdirector.model import Sizes

SMALL = Sizes(services=4, backends=16, listeners=16, connections=1024, connections6=1024, ring_slots=4096,
              clients=1024, fragments=1024, denied=16, sources=1024)  # fmt: skip
LARGER = SMALL.model_copy(update={"connections": 4096, "connections6": 8192, "backends": 64, "services": 8})
REPLAYED = {"connections": 4096, "connections6": 1024, "ring_slots": 65536}
"""As a configuration has them."""
