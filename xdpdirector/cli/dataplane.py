# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector dataplane`: what the kernel holds."""

from __future__ import annotations

from typing import Any

import typer

from xdpdirector.cli.context import Format, Output, Watch, target
from xdpdirector.cli.render import Parts, facts, number, repeated, state, table

NEARLY_FULL = 0.8


def dataplane(context: typer.Context, watch: Watch = False, output: Output = Format.TABLE) -> None:
    """What the kernel holds: programs, maps, backends.

    Which programs run where, how full the maps are, the backends as packets see them, and repaired drift.
    """
    client = target(context).client()

    def look() -> tuple[Any, Any]:
        document = client.get("/v1/dataplane")
        return document, lambda: _shown(document)

    repeated(watch, look, output)


def _shown(document: dict[str, Any]) -> Parts:
    program = document["program"]
    yield facts(
        ("program", f"{program['id']}, tag {program['tag']}, {_instructions(program)}"),
        ("tail calls", ", ".join(f"{name} {number}" for name, number in document["stages"].items())),
        ("explains in", str(document["explaining"]["id"]) if document["explaining"] else "not asked yet"),
        ("runs on", ", ".join(map(_carrier, document["carriers"])) or "no interface"),
        ("for frames to", ", ".join(document["own_macs"]) or "any MAC address"),
        ("maps' layout", document["layout"][:12]),
        ("compiler", f"BCC {document['bcc']}"),
        ("drift repaired", number(document["drift_repaired"])),
    )
    yield ""
    yield _maps(document["maps"])
    yield ""
    yield _backends(document["backends"]) if document["backends"] else "There are no backends."


def _instructions(program: dict[str, Any]) -> str:
    count = f"{number(program['instructions'])} instructions, " if program["instructions"] else ""
    return f"{count}{number(program['verified'])} examined by the verifier"


def _carrier(each: dict[str, Any]) -> str:
    earlier = "" if each["current"] else f", still program {each['program_id']}"
    return f"{each['interface']} ({each['mode']}{earlier})"


def _maps(maps: list[dict[str, Any]]) -> Any:
    rows = table("MAP TYPE >ID >KEY >VALUE >ENTRIES >ROOM >FULL")
    for each in maps:
        known, room = each["entries"], each["room"]
        full = known / room if known is not None and room else 0.0
        rows.add_row(
            each["name"],
            each["type"],
            str(each["id"]),
            str(each["key_size"]),
            str(each["value_size"]),
            "" if known is None else number(known),
            number(room),
            "" if known is None else state("down" if full > NEARLY_FULL else "", f"{full:.0%}"),
        )
    return rows


def _backends(backends: list[dict[str, Any]]) -> Any:
    rows = table("BACKEND >INDEX STATE ACCEPTS MAC INTERFACE VLAN FORWARD")
    for each in backends:
        mac = "this host" if each["local"] else each["mac"] or "not known"
        rows.add_row(
            f"{each['service']}/{each['backend']}",
            str(each["index"]),
            state({"serving": "up"}.get(each["state"], each["state"]), each["state"]),
            state("yes" if each["accepts"] else "no"),
            mac,
            each["interface"] or "",
            "as it came" if each["vlan"] is None else str(each["vlan"] or "none"),
            each.get("tunnel") or "direct",
        )
    return rows
