# SPDX-License-Identifier: Apache-2.0
"""Turns messages of compiler and verifier into one error with file and line.

Text in, error out: of BCC it knows only the format of its output.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from xdpdirector.errors import LoaderError, NotAllowedError

EXCERPT_LINES = 20
VERIFIER_LINES = 15
UNCHANGED = "Nothing that runs was changed."

_COMPLAINT = re.compile(r":\d+:\d+: (fatal )?error: ")
_NO_MAP = re.compile(r"could not open bpf map: (\S+), error: (.*)")
_VERIFIER = "bpf: Failed to load program"
_STATEMENT = re.compile(r"^(;.*@ )(\S+):(\d+)$", re.MULTILINE)
_AFTERMATH = ("processed ", "cur state:", "old state:", "verification time")
_INSTRUCTION = re.compile(r"at insn (\d+)|^(\d+): \(", re.MULTILINE)
_PROGRAM = re.compile(r"BPF program b'(\w+)'")
_SOURCE_LINE = re.compile(r";.* // Line +(\d+)")


def explained(reason: str, log: str, root: Path, place: str = "") -> LoaderError | NotAllowedError:
    """The error for BCC's reason and log; files are named relative to the parent of `root`.

    `place`: where the verifier stopped, if the log itself does not say.
    """
    lines = [line for line in log.replace(f"{root.parent}/", "").splitlines() if line.strip()]
    if "super-user" in reason or "Operation not permitted" in log:
        return NotAllowedError(f"the kernel does not allow to load BPF programs: {_text(reason, lines)}")
    if no_map := _NO_MAP.search(log):
        return LoaderError(
            f"the map '{no_map[1]}' cannot be made: {no_map[2]}. {UNCHANGED} "
            "Perhaps `sizes` in the configuration asks for more than there is memory"
        )
    if (start := _first(lines, lambda line: line.startswith(_VERIFIER))) is not None:
        return _refused(reason, _located(lines[start + 1 :], root.name), place)
    if (start := _first(lines, lambda line: bool(_COMPLAINT.search(line)))) is not None:
        excerpt = lines[start : start + EXCERPT_LINES]
        return LoaderError(_text(f"the packet program does not compile. {UNCHANGED}", excerpt))
    return LoaderError(_text(f"{reason}. {UNCHANGED}", lines[-EXCERPT_LINES:]))


def stopped_at(reason: str, log: str) -> tuple[str, int] | None:
    """Function and instruction where the verifier stopped, if its log names no source lines.

    Linux before 6.8 quotes statements only, and BCC drops line information when the kernel answers EINVAL, as
    it does to an endless loop.
    """
    program, numbers = _PROGRAM.search(reason), list(_INSTRUCTION.finditer(log))
    if _VERIFIER not in log or _STATEMENT.search(log) or not program or not numbers:
        return None
    return program[1], int(numbers[-1][1] or numbers[-1][2])


def source_line(disassembly: str, function: str, instruction: int) -> int | None:
    """The source line that BCC's disassembly (DEBUG_SOURCE) notes for an instruction."""
    _, _, body = disassembly.partition(f"Disassembly of function {function}\n")
    number = None
    for line in body.splitlines():
        if noted := _SOURCE_LINE.match(line):
            number = int(noted[1])
        elif line.strip().startswith(f"{instruction}:"):
            return number
        elif line.startswith("Disassembly of"):
            break
    return None


def _first(lines: list[str], wanted: Callable[[str], bool]) -> int | None:
    return next((number for number, line in enumerate(lines) if wanted(line)), None)


def _refused(reason: str, lines: list[str], place: str) -> LoaderError:
    verdict = [line for line in lines if not line.startswith(_AFTERMATH)]
    statements = [match for line in lines if (match := _STATEMENT.search(line))]
    if statements:
        place = f"{statements[-1][2]}:{statements[-1][3]}"
    said = verdict[-1] if verdict else reason
    title = f"the kernel's verifier refuses the program: {said}. {UNCHANGED} The end of its log:"
    return LoaderError(_text(f"{place}: {title}" if place else title, lines[-VERIFIER_LINES:]))


def _located(lines: list[str], directory: str) -> list[str]:
    """The log names files without their directory."""
    return [_STATEMENT.sub(rf"\1{directory}/\2:\3", line) for line in lines]


def _text(title: str, lines: Sequence[str]) -> str:
    return "\n".join([title, *lines])
