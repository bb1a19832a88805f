# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector lan`: what is true on the network of the director, and what is wrong with it."""

from __future__ import annotations

from typing import Any

import typer

from xdpdirector.cli.context import Format, Output, target
from xdpdirector.cli.render import Parts, answer, moment, plural, state, table


def lan(context: typer.Context, output: Output = Format.TABLE) -> None:
    """Who answers for the VIPs, and whether each backend has them.

    Exit code 1 when something is wrong.
    """
    document = target(context).client().get("/v1/lan")
    answer(output, document, lambda: show(document))
    if document["findings"]:
        raise typer.Exit(1)


def show(document: dict[str, Any]) -> Parts:
    """Findings first."""
    for each in document["findings"]:
        yield f"{each['text']} (since {moment(each['since'])})"
        yield f"  seen: {each['evidence']}"
        yield f"  remedy: {each['remedy']}"
        yield ""
    asks = (
        "asked again and again" if document["probing"] else "not asked: only the neighbour table is looked at"
    )
    yield f"{plural(len(document['findings']), 'finding')}; the network is {asks}."
    yield ""
    rows = table("ADDRESS BACKENDS MAC INTERFACE >CHANGES VIPS")
    presence: dict[str, list[str]] = {}
    for one in document["presence"]:
        presence.setdefault(one["address"], []).append(f"{one['vip']} {one['presence']}")
    for each in document["neighbours"]:
        rows.add_row(
            each["address"],
            ", ".join(each["backends"]),
            each["mac"] or state(each["state"]),
            each["interface"] or "",
            str(each["mac_changes"]),
            ", ".join(presence.get(each["address"], ["not asked"])),
        )
    yield rows if document["neighbours"] else "There are no backends."
