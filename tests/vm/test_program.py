# SPDX-License-Identifier: Apache-2.0
"""This kernel takes the program, all its stages."""

from __future__ import annotations

import platform

import pytest

from dev.bench.loaded import Programs
from xdpdirector.model import Sizes

ENOUGH = (
    500_000  # half of what the kernel verifies of one program before it gives up (BPF_COMPLEXITY_LIMIT_INSNS)
)


def test_the_verifier_takes_every_stage(capsys: pytest.CaptureFixture[str]) -> None:
    with Programs("vm", Sizes()) as programs:
        parts = programs.parts()

    verified = {part.name: part.verified_instructions for part in parts}
    with capsys.disabled():
        print(f"\nverified instructions on {platform.release()}: {sum(verified.values()):,}")
        print("".join(f"  {name:<16} {count:>8,}\n" for name, count in verified.items()))
    assert len(verified) > 1
    assert all(0 < count < ENOUGH for count in verified.values())
