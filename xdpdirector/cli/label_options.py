# SPDX-License-Identifier: Apache-2.0
"""Labels on the command line: given, taken away and chosen by. Values are not judged here."""

from __future__ import annotations

from typing import Annotated, Any

import typer

Label = Annotated[
    list[str] | None,
    typer.Option(metavar="KEY=VALUE", help="A label; KEY- takes it away. Several times.", show_default=False),
]
Selector = Annotated[
    str | None,
    typer.Option(
        "--selector", "-l", metavar="LABELS", help="Those with labels, like rack=b3.", show_default=False
    ),
]


def patch(said: list[str] | None) -> dict[str, Any]:
    """As a merge patch."""
    labels: dict[str, str | None] = {}
    for each in said or ():
        name, equals, value = each.partition("=")
        if not equals and not each.endswith("-"):
            raise typer.BadParameter(f"'{each}' is no label: write it like rack=b3, or rack- to take it away")
        labels[name if equals else each[:-1]] = value if equals else None
    return {"labels": labels} if labels else {}
