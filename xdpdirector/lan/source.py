# SPDX-License-Identifier: Apache-2.0
"""The seam between who looks after the network and who shows what was found, and a fake."""

from __future__ import annotations

from typing import Protocol

from xdpdirector.lan.view import Finding, LanView


class LanSource(Protocol):
    """`xdpdirector.lan.watch.Lan` is one."""

    @property
    def findings(self) -> tuple[Finding, ...]: ...

    def view(self) -> LanView: ...


class FakeLan:
    """`findings`: what a test found."""

    def __init__(self) -> None:
        self.findings: tuple[Finding, ...] = ()

    def view(self) -> LanView:
        return LanView(probing=False, findings=self.findings, vips={}, neighbours=(), presence=())
