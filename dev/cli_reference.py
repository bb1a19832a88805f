# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.cli_reference`: docs/cli.md, every command, argument and option, out of the command tree.

A test compares it with what stands there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import typer

from xdpdirector.cli.app import command
from xdpdirector.cli.lazy import LazyGroup

CHECKOUT = Path(__file__).parents[1]
MARKDOWN = CHECKOUT / "docs" / "cli.md"

_OF_EVERY_PROGRAM = ("help", "install_completion", "show_completion")
_KINDS = {"int": "NUMBER", "integer": "NUMBER", "float": "NUMBER", "path": "FILE", "file": "FILE"}

_HEAD = """\
# Command line

Made by `./lab reference` out of the commands: change them there. Options before the command hold for all of them.
`xdpdirector COMMAND --help` says the same. {epilog}

"""


@dataclass(frozen=True)
class Parameter:
    """A row: how it is written, what it is, the value without it; `required`, or empty for a switch."""

    name: str
    text: str
    default: str


@dataclass(frozen=True)
class Command:
    """`usage`: as it is written. `text`: its help, a paragraph each. `example` may be empty."""

    name: str
    usage: str
    text: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    example: str


def commands() -> list[Command]:
    """All that can be called, in the order of the help."""
    return list(_walk("xdpdirector", command()))


def markdown() -> str:
    tree = command()
    parts = [_HEAD.format(epilog=_plain(tree.epilog)), _table(_parameters(tree)), "\n"]
    for each in commands():
        parts += [
            f"## {each.name}\n\n",
            f"`{each.usage}`\n\n",
            *(f"{paragraph}\n\n" for paragraph in each.text),
        ]
        if each.parameters:
            parts += [_table(each.parameters), "\n"]
        if each.example:
            parts.append(f"Example: `{each.example}`\n\n")
    return "".join(parts).rstrip() + "\n"


def _walk(name: str, found: Any) -> Iterator[Command]:
    if isinstance(found, LazyGroup):
        module, _, attribute = found.source.partition(":")
        found = typer.main.get_command(getattr(import_module(module), attribute))
    if hasattr(found, "commands"):
        for below, inner in found.commands.items():
            if not inner.hidden:
                yield from _walk(f"{name} {below}", inner)
        return
    parameters = tuple(_parameters(found))
    arguments = [_argument(each) for each in found.params if each.param_type_name == "argument"]
    options = ["[OPTION...]"] if len(parameters) > len(arguments) else []
    yield Command(
        name=name,
        usage=" ".join([name, *options, *arguments]),
        text=tuple(" ".join(paragraph.split()) for paragraph in (found.help or "").split("\n\n")),
        parameters=parameters,
        example=_plain(found.epilog).removeprefix("Example: "),
    )


def _parameters(found: Any) -> Iterator[Parameter]:
    for each in found.params:
        if getattr(each, "hidden", False) or each.name in _OF_EVERY_PROGRAM:
            continue
        if each.param_type_name == "argument":
            name = _argument(each)
        else:
            names = [*each.opts, *each.secondary_opts]
            name = ", ".join(sorted(names, key=len))
            if not each.is_flag:
                name += f" {each.metavar or _kind(each.type)}"
        yield Parameter(name, _text(each), _default(each))


def _kind(found: Any) -> str:
    """What may be written for a value: the choices, or what kind of text it is."""
    choices = getattr(found, "choices", None)
    if choices:
        return "|".join(map(str, choices))
    return _KINDS.get(found.name, "TEXT")


def _argument(parameter: Any) -> str:
    name = parameter.metavar or parameter.name.upper()
    name += "..." if parameter.nargs == -1 and not name.endswith("...") else ""
    return name if parameter.required or name.startswith("[") else f"[{name}]"


def _text(parameter: Any) -> str:
    return " ".join((parameter.help or "").split())


def _default(parameter: Any) -> str:
    if parameter.required:
        return "required"
    value = parameter.default
    if value is None or value in (False, "", ()) or callable(value):
        return ""
    return f"`{getattr(value, 'value', value)}`"


def _plain(epilog: str | None) -> str:
    return " ".join((epilog or "").replace("\b", "").split())


def _table(parameters: Any) -> str:
    rows = ["| argument, option | meaning | default |\n", "|---|---|---|\n"]
    rows += [f"| `{_cell(each.name)}` | {_cell(each.text)} | {each.default} |\n" for each in parameters]
    return "".join(rows)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def main() -> None:
    MARKDOWN.write_text(markdown())


if __name__ == "__main__":
    main()
