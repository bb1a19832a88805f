# SPDX-License-Identifier: Apache-2.0
"""The seam between who looks after the network and who shows what was found."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from xdpdirector.lan.types import Finding, LanView
from xdpdirector.model import Address


class LanSource(Protocol):
    """`xdpdirector.lan.monitor.Lan` is one."""

    @property
    def findings(self) -> tuple[Finding, ...]: ...

    @property
    def mac_changes(self) -> Mapping[Address, int]:
        """How often each backend's MAC changed, by its address."""

    def view(self) -> LanView: ...
