# SPDX-License-Identifier: Apache-2.0
"""What is found on a network, as a test says."""

from __future__ import annotations

from xdpdirector.lan.types import Finding, LanView
from xdpdirector.model import Address


class FakeLan:
    """`findings`: what a test found."""

    def __init__(self) -> None:
        self.findings: tuple[Finding, ...] = ()
        self.mac_changes: dict[Address, int] = {}

    def view(self) -> LanView:
        return LanView(probing=False, findings=self.findings, vips={}, neighbours=(), presence=())
