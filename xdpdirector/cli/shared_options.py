# SPDX-License-Identifier: Apache-2.0
"""Options that several commands share are written once: a function that makes one value of them.

    def patch(weight: Weight = None, ...) -> dict: ...

    @app.command()
    @taking(patch)
    def add(context: typer.Context, name: Name, patch: dict, output: Output = ...) -> None: ...

The command line shows the function's parameters where the command has the one that is named like the function.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any


def taking(options: Callable[..., Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A decorator, below `app.command`."""
    name, shared = options.__name__, inspect.signature(options, eval_str=True).parameters

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            said = {option: values.pop(option) for option in shared}
            command(**values, **{name: options(**said)})

        parameters: list[inspect.Parameter] = []
        for parameter in inspect.signature(command, eval_str=True).parameters.values():
            parameters += shared.values() if parameter.name == name else [parameter]
        run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate
