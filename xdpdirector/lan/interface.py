# SPDX-License-Identifier: Apache-2.0
"""The interface between the LAN monitor and its users."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from xdpdirector.lan.types import Finding, LanView
from xdpdirector.model import Address


class LanSource(Protocol):
    """Implemented by `xdpdirector.lan.monitor.Lan`."""

    @property
    def findings(self) -> tuple[Finding, ...]: ...

    @property
    def mac_changes(self) -> Mapping[Address, int]:
        """Number of MAC changes by backend address."""

    def view(self) -> LanView: ...
