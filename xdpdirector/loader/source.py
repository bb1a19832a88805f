# SPDX-License-Identifier: Apache-2.0
"""The packet program's text: finds and joins the files, computes digests, and parses enums.

Knows nothing of compilers, the kernel or instances. BCC rewrites map calls in the main file only, so the
local headers are inlined; `#line` directives keep messages at the original file and line.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from xdpdirector.errors import LoaderError
from xdpdirector.model import Sizes

PROGRAM = "director.c"
LAYOUT_HEADERS = ("types.h", "maps.h")
MAIN = "/virtual/main.c"  # BCC's name for the text passed to it

_INCLUDE = re.compile(r'\s*#\s*include\s*"([^"]+)"')
_ONCE = re.compile(r"\s*#\s*pragma\s+once\b")
_MARK = re.compile(r'#line (\d+) "(.*)"')
_STRING_OR_COMMENT = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/', re.DOTALL)
_ENUM = re.compile(r"\benum\s+(\w+)\s*\{([^}]*)\}")
_CONSTANT = re.compile(r"(\w+)(?:\s*=\s*(0[xX][0-9a-fA-F]+|0|[1-9][0-9]*)[uUlL]*)?")


def program() -> Path:
    """Path of the installed `director.c`."""
    try:
        path = Path(str(importlib.resources.files("xdpdirector.bpf"))) / PROGRAM
    except ModuleNotFoundError as error:
        raise LoaderError(
            "the packet program (package xdpdirector.bpf) is not installed: install xdpdirector with pip"
        ) from error
    if not path.is_file():
        raise LoaderError(f"the packet program {path} is missing: install xdpdirector again")
    return path


def inline(path: Path) -> str:
    """The file with each local header (`#include "x.h"`) inlined at its first inclusion.

    Each part starts with `#line N "bpf/file"`, relative to the directory above the program's. LoaderError
    names a missing header.
    """
    path = path.resolve()
    return "\n".join(_inlined(path, path.parent, set())) + "\n"


def _inlined(path: Path, root: Path, seen: set[Path]) -> Iterator[str]:
    seen.add(path)
    name = _name(path, root)
    yield f'#line 1 "{name}"'
    for number, line in enumerate(_read(path).splitlines(), start=1):
        match = _INCLUDE.match(line)
        if match:
            header = (path.parent / match[1]).resolve()
            if not header.is_file():
                raise LoaderError(f"{name}:{number}: there is no header '{match[1]}' beside this file")
            if header not in seen:
                yield from _inlined(header, root, seen)
            yield f'#line {number + 1} "{name}"'
        else:
            yield "" if _ONCE.match(line) else line


def _name(path: Path, root: Path) -> str:
    inside = path.is_relative_to(root)
    return f"{root.name}/{path.relative_to(root)}" if inside else str(path)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise LoaderError(f"{path} cannot be read: {error}") from error


class Line(NamedTuple):
    """A line of the joined text with its origin. `starts`: no statement or comment spans its beginning."""

    text: str
    name: str
    number: int
    starts: bool


def lines(text: str) -> list[Line]:
    """Splits the result of `inline` into lines, without the `#line` directives."""
    found = []
    number, name, starts = 1, "", True
    for line, code in zip(text.splitlines(), without_comments(text).splitlines(), strict=True):
        mark = _MARK.fullmatch(line)
        if mark:
            number, name, starts = int(mark[1]), mark[2], True
        else:
            found.append(Line(line, name, number, starts))
            number += 1
            starts = code.rstrip().endswith((";", "{", "}"))
    return found


def pinpointed(text: str, root: Path) -> str:
    """`text` for BCC: with `#line` before each statement, and file names with the full path of `root`.

    BCC inserts lines before functions, which would shift the lines in the verifier's log; and clang reads the
    statements that the log quotes from the named file, so the name must be its path.
    """
    parent = root.resolve().parent
    return _marked((line, line.number, str(parent / line.name)) for line in lines(text))


def numbered(text: str) -> str:
    """`text` for BCC's disassembler, which knows one file only: line numbers are indices into `lines`."""
    return _marked((line, index, MAIN) for index, line in enumerate(lines(text)))


def _marked(marked: Iterable[tuple[Line, int, str]]) -> str:
    result = []
    for line, number, name in marked:
        if line.starts:
            result.append(f'#line {number} "{name}"')
        result.append(line.text)
    return "\n".join(result) + "\n"


def without_comments(text: str) -> str:
    """Remove comments; the number of lines stays."""
    return _STRING_OR_COMMENT.sub(lambda match: _blank(match[0]), text)


def _blank(match: str) -> str:
    return match if match.startswith('"') else " " + "\n" * match.count("\n")


def enums(text: str) -> dict[str, dict[str, int]]:
    """The constants of each named enum. LoaderError for a value that is not a plain decimal or hex number."""
    return {match[1]: _constants(match[1], match[2]) for match in _ENUM.finditer(without_comments(text))}


def _constants(enum: str, body: str) -> dict[str, int]:
    constants: dict[str, int] = {}
    following = 0
    for entry in filter(None, (part.strip() for part in body.split(","))):
        match = _CONSTANT.fullmatch(entry)
        if not match:
            raise LoaderError(f"enum {enum}: '{entry}' has no plain decimal or hexadecimal value")
        value = int(match[2], 0) if match[2] else following
        constants[match[1]] = value
        following = value + 1
    return constants


def program_digest(text: str, flags: Sequence[str]) -> str:
    """SHA-256 of everything passed to the compiler, in hex."""
    return _digest(text, *flags)


def layout_digest(directory: Path, sizes: Sizes, has_frags: bool = False) -> str:
    """SHA-256 of everything that determines the maps' layout, in hex; comments and whitespace do not count.

    `has_frags` counts because the map `stages` takes only programs that are as its first one in that
    (kernel/bpf/core.c, bpf_prog_map_compatible()).
    """
    headers = (directory / name for name in LAYOUT_HEADERS)
    substance = [_substance(inline(header)) for header in headers if header.is_file()]
    return _digest(*substance, sizes.model_dump_json(), *(["frags"] if has_frags else []))


def _substance(text: str) -> str:
    return " ".join(without_comments("\n".join(line.text for line in lines(text))).split())


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()
