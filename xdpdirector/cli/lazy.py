# SPDX-License-Identifier: Apache-2.0
"""A group of commands that is imported when one of them is called, and not before."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup


class LazyGroup(TyperGroup):
    """Stands in for the Typer app `source` (`package.module:attribute`); knows only its name and help line."""

    def __init__(self, name: str, source: str, *, help: str) -> None:  # noqa: A002
        super().__init__(name=name, help=help)
        self.source = source

    def make_context(self, *args: Any, **options: Any) -> Any:
        """The real group's context, which replaces this placeholder."""
        module, _, attribute = self.source.partition(":")
        app: typer.Typer = getattr(import_module(module), attribute)
        parent = typer.Typer(rich_markup_mode=None, add_completion=False)  # they show in the same way
        parent.add_typer(app, name=self.name)
        tree: Any = typer.main.get_command(parent)
        return tree.commands[self.name].make_context(*args, **options)
