# SPDX-License-Identifier: Apache-2.0
"""How output is written: JSON and YAML as it came, tables aligned. Knows nothing of services and backends.

Without a terminal there are no colours, and never is a name cut short: a narrow terminal wraps.
"""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from datetime import datetime
from io import StringIO
from typing import TYPE_CHECKING

from xdpdirector.cli import streams
from xdpdirector.cli.context import Format
from xdpdirector.cli.exit_codes import PIPE_CLOSED
from xdpdirector.cli.tables import Table, Word, has_colours, painted
from xdpdirector.system import sanitize

if TYPE_CHECKING:
    from rich.console import Console

EVERY = 1.0  # seconds between two requests of --watch
Parts = Iterable["Table | str"]
_COLOURS = {
    "up": "green",
    "drained": "cyan",
    "down": "bold red",
    "partial": "yellow",
    "unknown": "yellow",
    "suspect": "yellow",
    "ejected": "bold red",
    "trial": "yellow",
    "drain": "cyan",
    "maintenance": "magenta",
    "no": "yellow",
    "added": "green",
    "changed": "yellow",
    "removed": "red",
}
_WIDEST = 10_000


def answer(output: Format, document: object, parts: Callable[[], Parts]) -> None:
    """Write `document` as it is, or the parts that show it."""
    write(_render(parts()) if output is Format.TABLE else as_text(output, document))


def as_text(output: Format, document: object) -> str:
    """As JSON or YAML."""
    if output is Format.YAML:
        return _yaml(document)
    return sanitize.json(json.dumps(document, indent=2, ensure_ascii=False)) + "\n"


def _yaml(document: object) -> str:
    from ruamel.yaml import YAML

    yaml, text = YAML(), StringIO()
    yaml.width, yaml.default_flow_style = _WIDEST, False
    yaml.dump(document, text)
    if sanitize.json(text.getvalue()) == text.getvalue():
        return text.getvalue()
    yaml.allow_unicode, text = False, StringIO()
    yaml.dump(document, text)
    return text.getvalue()


def yaml_shown(text: str) -> str:
    """YAML that the daemon wrote, as it is where nothing in it is a command to a terminal."""
    if sanitize.lines(text) == text:
        return text
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        return _yaml(YAML(typ="safe", pure=True).load(text))
    except YAMLError:  # no honest daemon's
        return sanitize.lines(text)


def entry(output: Format, document: object, line: Callable[[], str]) -> None:
    """One of many, as they come: a line of a table, a line of JSON, or one more YAML document."""
    if output is Format.JSON:
        write(sanitize.json(json.dumps(document, ensure_ascii=False)) + "\n")
    elif output is Format.YAML:
        write("---\n" + _yaml(document))
    else:
        write(line() + "\n")


def repeated(watch: bool, look: Callable[[], tuple[object, Callable[[], Parts]]], output: Format) -> None:
    """Request and show, once, or until it is interrupted: a terminal then shows one document at a time."""
    if not watch:
        answer(output, *look())
    elif output is Format.TABLE and sys.stdout.isatty():
        _live(lambda: look()[1]())
    else:
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                answer(output, *look())
                time.sleep(EVERY)


def _live(parts: Callable[[], Parts]) -> None:
    from rich.live import Live
    from rich.text import Text

    from xdpdirector.cli import keyboard

    console = terminal()
    with (
        contextlib.suppress(KeyboardInterrupt),
        keyboard.keys(),
        Live(console=console, screen=True, auto_refresh=False) as live,
    ):
        while True:
            live.update(Text.from_ansi(_render(parts()), no_wrap=True, overflow="crop", end=""), refresh=True)
            if keyboard.is_over(EVERY):
                return


def table(columns: str) -> Table:
    """See `Table`."""
    return Table(columns)


def facts(*facts: tuple[str, str]) -> Table:
    """Names and values, a line each."""
    made = Table("NAME VALUE", show_header=False)
    for name, value in facts:
        made.add_row(name, value)
    return made


def state(word: str, shown: str | None = None) -> Word:
    """The word, or another one, in its colour."""
    return Word(word if shown is None else shown, _COLOURS.get(word, ""))


def paint(text: str, style: str) -> str:
    """In colour where that can be seen; for a line of its own, not for a table."""
    shown = sanitize.line(text)
    return painted(shown, style) if style and has_colours() else shown


def endpoint(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


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


def terminal(width: int | None = None) -> Console:
    """Text as it stands, in colours where they can be seen."""
    from rich.console import Console

    return Console(width=width, highlight=False, markup=False, emoji=False)


def _render(parts: Parts) -> str:
    colours, lines = has_colours(), list[str]()
    for part in parts:
        if isinstance(part, Table):
            lines += part.lines(colours=colours)
        else:
            lines += sanitize.lines(part).splitlines() or [""]
    return "".join(f"{line}\n" for line in lines)


def write(text: str) -> None:
    """Write to standard output at once; the program ends when it was closed. See `streams.reporting`."""
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader has gone (`| head`), and Click would end with status 1
        streams.give_up_output()
        raise SystemExit(PIPE_CLOSED) from None
