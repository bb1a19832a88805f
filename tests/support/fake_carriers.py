# SPDX-License-Identifier: Apache-2.0
"""Interfaces that carry the packet program, as a test says."""

from __future__ import annotations

from collections.abc import Mapping


class FakeCarriers:
    """`troubles`: what is wrong; `errors`: what the drivers count."""

    def __init__(self) -> None:
        self.troubles: list[str] = []
        self.errors: dict[str, int] = {}

    def problems(self) -> list[str]:
        return self.troubles

    def transmit_errors(self) -> Mapping[str, int]:
        return self.errors
