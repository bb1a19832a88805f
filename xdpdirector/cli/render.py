# SPDX-License-Identifier: Apache-2.0
"""How output is written: JSON as it came, tables aligned. Knows nothing of services and backends.

Without a terminal there are no colours, and never is a name cut short: a narrow terminal wraps.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from xdpdirector.cli.target import Format

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Parts = Iterable["Table | str"]
_COLOURS = {
    "up": "green",
    "drained": "cyan",
    "down": "bold red",
    "unknown": "yellow",
    "drain": "cyan",
    "maintenance": "magenta",
    "no": "yellow",
    "added": "green",
    "changed": "yellow",
    "removed": "red",
}
_WIDEST = 10_000
_PIPE_CLOSED = 141  # what a shell shows of a program that SIGPIPE ended


def answer(output: Format, document: object, parts: Callable[[], Parts]) -> None:
    """Write `document` as it is, or the parts that show it."""
    if output is Format.JSON:
        _write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    else:
        _write(_render(parts()))


def table(columns: str) -> Table:
    """`columns`: the headings, space between them; `>` before one aligns it to the right."""
    from rich.table import Table

    made = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for column in columns.split():
        right = column.startswith(">")
        made.add_column(column.removeprefix(">"), justify="right" if right else "left", no_wrap=True)
    return made


def facts(*facts: tuple[str, Text | str]) -> Table:
    """Names and values, a line each."""
    made = table("NAME VALUE")
    made.show_header = False
    for name, value in facts:
        made.add_row(name, value)
    return made


def state(word: str) -> Text:
    from rich.text import Text

    return Text(word, style=_COLOURS.get(word, ""))


def number(count: int) -> str:
    return f"{count:,}"


def moment(text: str) -> str:
    """An ISO 8601 time as a clock on the wall shows it."""
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M:%S %Z}"


def plural(count: int, noun: str, many: str = "") -> str:
    return f"{count:,} {noun if count == 1 else many or noun + 's'}"


def size(count: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:,.1f} TiB"


def _render(parts: Parts) -> str:
    from rich.console import Console

    console = Console(width=_WIDEST, highlight=False, markup=False, emoji=False)
    with console.capture() as capture:
        for part in parts:
            console.print(part, soft_wrap=True)
    return "".join(line.rstrip() + "\n" for line in capture.get().splitlines())


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except (
        BrokenPipeError
    ):  # the reader has gone (`| head`): nothing to say, and nothing to flush at exit either
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(_PIPE_CLOSED) from None
