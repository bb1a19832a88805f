# SPDX-License-Identifier: Apache-2.0
"""The matrix for people: one table."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from xdpdirector.lab.services.result import COLUMNS, Cell, Result

_NONE = {"persistence": "one port", "drain": "no session", "loss": "no session"}


def show(result: Result, console: Console) -> None:
    table = Table(title="What the clients saw", title_justify="left", show_lines=True, expand=False)
    table.add_column("client", no_wrap=True)
    for name in COLUMNS:
        table.add_column(name, overflow="fold")
    for row in result.rows:
        client = Text.assemble(row.client, "\n", (row.tool, "dim"))
        table.add_row(client, *(_cell(row.cells.get(column), column) for column in COLUMNS))
    console.print(table)
    verdict = (
        f"{len(result.rows)} clients of {len({row.service for row in result.rows})} services "
        f"with {result.scheduler} in {result.seconds:.0f} s"
    )
    if result.passed:
        console.print(Text(f"PASS: {verdict}; all saw what they should.", style="bold green"))
        return
    console.print(
        Text(f"FAIL: {verdict}; {len(result.missed)} cells are not as they should be:", style="bold red")
    )
    for words in result.missed:
        console.print(Text(f"  {words}"))


def _cell(cell: Cell | None, column: str) -> Text:
    if cell is None:
        return Text(_NONE.get(column, ""), style="dim")
    return Text(cell.seen, style="" if cell.met else "bold red")
