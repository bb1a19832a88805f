# SPDX-License-Identifier: Apache-2.0
"""Aligned columns and a little colour, for a terminal. Rich does more, but takes seconds for a thousand rows.

What is shown may come from far away, such as the reply of a backend: it is made harmless.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence

from xdpdirector.system import sanitize

_CODES = {"bold": "1", "red": "31", "green": "32", "yellow": "33", "magenta": "35", "cyan": "36"}
_APART = "  "


class Lines(str):
    """Text whose line breaks stay, in a cell. Those of any other text would forge rows."""


class Word(str):
    """Text in a style: words such as `bold red`."""

    style: str

    def __new__(cls, text: str, style: str = "") -> Word:
        made = super().__new__(cls, text)
        made.style = style
        return made


def has_colours() -> bool:
    """Whether standard output is a terminal that shows them (no-color.org)."""
    return sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def painted(text: str, style: str) -> str:
    """As a terminal shows it in colour."""
    codes = ";".join(_CODES[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m" if codes else text


class Table:
    """`columns`: the headings, space between them; `>` before one aligns it to the right. A cell may be `Lines`."""

    def __init__(self, columns: str, *, show_header: bool = True) -> None:
        self._titles = [column.removeprefix(">") for column in columns.split()]
        self._right = [column.startswith(">") for column in columns.split()]
        self._rows: list[list[list[str]]] = []
        if show_header:
            self.add_row(*(Word(title, "bold") for title in self._titles))

    def add_row(self, *cells: str) -> None:
        """As many as there are columns, or fewer."""
        self._rows.append([_lines(cell) for cell in cells])

    def lines(self, *, colours: bool) -> Iterator[str]:
        """Without spaces at the end."""
        widths = [0] * len(self._titles)
        for row in self._rows:
            for column, cell in enumerate(row):
                widths[column] = max(widths[column], *map(len, cell))
        for row in self._rows:
            for number in range(max(map(len, row))):
                cells = [cell[number] if number < len(cell) else "" for cell in row]
                yield self._line(cells, widths, colours=colours)

    def _line(self, cells: Sequence[str], widths: Sequence[int], *, colours: bool) -> str:
        shown = []
        for cell, width, right in zip(cells, widths, self._right, strict=False):
            width += _unseen(cell) if colours else 0
            text = painted(cell, cell.style) if colours and isinstance(cell, Word) else cell
            shown.append(text.rjust(width) if right else text.ljust(width))
        return _APART.join(shown).rstrip()


def _unseen(cell: str) -> int:
    """Characters that its colour adds."""
    return len(painted("", cell.style)) if isinstance(cell, Word) else 0


def _lines(cell: str) -> list[str]:
    if cell.isprintable():  # as nearly all are
        return [cell]
    if isinstance(cell, Lines):
        return sanitize.lines(cell).split("\n")
    return [Word(sanitize.line(cell), cell.style if isinstance(cell, Word) else "")]
