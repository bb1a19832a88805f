# SPDX-License-Identifier: Apache-2.0
"""What a lab shows of itself to a person: its drawing, what runs where, and what to type next."""

from __future__ import annotations

from rich.console import Console

from xdpdirector.lab.lab_state import Record
from xdpdirector.lab.processes import inside
from xdpdirector.lab.shell import program
from xdpdirector.lab.topology import VIP4, Topology, draw


def show_status(topology: Topology, console: Console) -> None:
    console.print(status_text(topology), highlight=False, markup=False, soft_wrap=True)


def status_text(topology: Topology) -> str:
    name = topology.name
    lines = [f"lab '{name}' is up, {_holder(name)}; its director's instance is {topology.instance.name}", ""]
    lines += [draw(topology), "", "running:"]
    lines += _running(topology) or ["  nothing"]
    option = "" if name == "lab" else f" --name {name}"
    lines += [
        "",
        f"enter:   {program()} lab exec{option} client curl http://{VIP4}/who",
        f"         {program()} lab exec{option} director",
        f"ask:     {program()} -i {topology.instance.name} status",
    ]
    if Record(name).owner is None:
        lines.append(f"remove:  {program()} lab down{option}")
    return "\n".join(lines)


def _holder(name: str) -> str:
    record = Record(name)
    if record.owner:
        return f"held by process {record.owner.pid}"
    return "left by a process that died" if record.is_orphaned else "until it is taken down"


def _running(topology: Topology) -> list[str]:
    lines = []
    for node in topology.nodes:
        for process in inside([node.namespace_path]):
            command = process.command
            if command:
                lines.append(f"  {node.name:<10} {process.pid:>7}  {command[:100]}")
    return lines
