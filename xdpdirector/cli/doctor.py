# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector doctor`: the machine, the network and the daemon, each with evidence and remedy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from xdpdirector.cli.context import ConfigurationFile, Format, Output, target
from xdpdirector.cli.render import Parts, answer, plural
from xdpdirector.paths import InstancePaths

if TYPE_CHECKING:
    from xdpdirector.doctor.finding import Finding

_MARKS = {"ok": "ok     ", "note": "note   ", "warning": "WARNING", "error": "ERROR  "}


def doctor(
    context: typer.Context,
    config: ConfigurationFile = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")] = False,
    output: Output = Format.TABLE,
) -> None:
    """Look at everything that the director stands on; also without a daemon, and without root.

    Exit code 1 when there is a warning or an error.
    """
    from xdpdirector.doctor.machine import ThisMachine
    from xdpdirector.doctor.run import examine, is_well
    from xdpdirector.doctor.subject import admit

    chosen = target(context)
    subject = admit(
        InstancePaths(chosen.instance), chosen.configuration(config), ThisMachine(), chosen.client()
    )
    findings = examine(subject)
    shown = [each for each in findings if not quiet or each.level in ("warning", "error")]
    answer(output, {"items": [each.document() for each in shown]}, lambda: show(shown))
    if not is_well(findings):
        raise typer.Exit(1)


def show(findings: list[Finding]) -> Parts:
    topic = ""
    for each in findings:
        if each.topic != topic:
            yield f"{'' if not topic else chr(10)}{each.topic}"
            topic = each.topic
        yield f"  {_MARKS[each.level]} {each.text}"
        if each.level != "ok":
            yield f"          seen: {each.evidence}"
        if each.remedy:
            yield f"          remedy: {each.remedy}"
    yield ""
    counts = {level: sum(each.level == level for each in findings) for level in ("error", "warning", "note")}
    yield ", ".join(plural(count, level) for level, count in counts.items())
