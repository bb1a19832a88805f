# SPDX-License-Identifier: Apache-2.0
"""Processes that a test looks at in /proc while they may be ending."""

from __future__ import annotations

import contextlib
from pathlib import Path


def children(process: int | None) -> list[int]:
    """The children of its main thread; none when it is gone."""
    return [int(each) for each in _read(process, f"task/{process}/children").split()]


def is_alive(process: int) -> bool:
    """Where process 1 reaps nobody, an orphan that ended stays a zombie."""
    text = _read(process, "stat")
    return bool(text) and ") Z " not in text


def _read(process: int | None, name: str) -> str:
    """Empty when the process is gone: also between opening the file (ENOENT) and reading it (ESRCH)."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{process}/{name}").read_text()
    return ""
