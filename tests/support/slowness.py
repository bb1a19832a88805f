# SPDX-License-Identifier: Apache-2.0
"""What an emulated machine is granted: it is some 20 times slower than the one that emulates it."""

from __future__ import annotations

from xdpdirector.lab.configuration import HealthCheck

PATIENCE = 300.0  # seconds
CHECK = HealthCheck(interval=10.0, timeout=8.0)  # on a busy machine an answer took more than 1.5 s twice
