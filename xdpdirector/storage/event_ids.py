# SPDX-License-Identifier: Apache-2.0
"""The first event id of a daemon, so that the ids of a later daemon are higher, whatever the clock shows.

They begin at the clock's milliseconds, or behind all that an earlier daemon may have given, which stands in a file.
It is written when a daemon starts, for so many events that none lives to need more. Knows a file; no events.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

AHEAD = 1 << 30
"""Events of one daemon's life: a hundred a second for four months."""

log = logging.getLogger(__name__)


def begin(path: Path, now_ms: int | None = None) -> int:
    """The first id of this daemon. What cannot be read or written is logged: then the clock has to do."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    first = max(now_ms, _known(path))
    try:
        _write(path, first + AHEAD)
    except OSError as error:
        log.warning("how far the ids of events have come is not kept in %s: %s", path, error.strerror)
    return first


def _known(path: Path) -> int:
    try:
        return int(path.read_text())
    except FileNotFoundError:
        return 0
    except (OSError, ValueError) as error:
        log.warning("how far the ids of events had come cannot be read from %s: %s", path, error)
        return 0


def _write(path: Path, number: int) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".new")
    opened = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(opened, "w") as file:
        file.write(f"{number}\n")
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)
