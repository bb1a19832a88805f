# SPDX-License-Identifier: Apache-2.0
"""What the compiler and the verifier said, as one error that points to a file and a line.

Text in, error out: knows nothing of BCC beyond the shape of its output.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from xdpdirector.errors import LoaderError, NotAllowedError

EXCERPT_LINES = 20
VERIFIER_LINES = 15
UNCHANGED = "Nothing that runs was changed."

_COMPLAINT = re.compile(r"(fatal )?error: ")
_VERIFIER = "bpf: Failed to load program"
_STATEMENT = re.compile(r"(;.*@ )(\S+):(\d+)$")
_SUMMARY = "processed "


def explained(reason: str, log: str, root: Path) -> LoaderError | NotAllowedError:
    """From BCC's own words and what it printed; files below `root`'s parent are named from there."""
    lines = [line for line in log.replace(f"{root.parent}/", "").splitlines() if line.strip()]
    if "super-user" in reason or "Operation not permitted" in log:
        return NotAllowedError(f"the kernel does not allow to load BPF programs: {_text(reason, lines)}")
    start = next((number for number, line in enumerate(lines) if line.startswith(_VERIFIER)), None)
    if start is not None:
        return _refused(reason, _located(lines[start + 1 :], root.name))
    start = next((number for number, line in enumerate(lines) if _COMPLAINT.search(line)), None)
    if start is not None:
        excerpt = lines[start : start + EXCERPT_LINES]
        return LoaderError(_text(f"the packet program does not compile. {UNCHANGED}", excerpt))
    return LoaderError(_text(f"{reason}. {UNCHANGED}", lines[-EXCERPT_LINES:]))


def _refused(reason: str, lines: list[str]) -> LoaderError:
    verdict = [line for line in lines if not line.startswith(_SUMMARY)]
    statements = [match for line in lines if (match := _STATEMENT.search(line))]
    place = f"{statements[-1][2]}:{statements[-1][3]}: " if statements else ""
    said = verdict[-1] if verdict else reason
    title = f"{place}the kernel's verifier refuses the program: {said}. {UNCHANGED} The end of its log:"
    return LoaderError(_text(title, lines[-VERIFIER_LINES:]))


def _located(lines: list[str], directory: str) -> list[str]:
    """The log names files without their directory."""
    return [_STATEMENT.sub(rf"\1{directory}/\2:\3", line) for line in lines]


def _text(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *lines])
