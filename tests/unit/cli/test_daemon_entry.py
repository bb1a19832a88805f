# SPDX-License-Identifier: Apache-2.0
"""The usual order to become the daemon is understood as the command line's library does, or is left to that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xdpdirector.cli.app import command
from xdpdirector.cli.context import target
from xdpdirector.cli.daemon_entry import Order, plain_order

USUAL, OF_EDGE, OF_LAB = (
    Path("/etc/xdpdirector") / name for name in ("director.yaml", "edge.yaml", "lab.yaml")
)
EDGE = Path("/etc/edge.yaml")


def by_library(arguments: list[str]) -> Order:
    """What `run` is given."""
    tree: Any = command()
    context = tree.make_context("xdpdirector", list(arguments))
    with context:
        name, run, rest = tree.resolve_command(context, [*context._protected_args, *context.args])
        assert name == "run"
        tree.callback(**context.params)
        inner = run.make_context(name, rest, parent=context)
    named = inner.params["config"]
    return Order(target(inner).instance, target(inner).configuration(Path(named) if named else None))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(["run"], Order("default", USUAL), id="nothing else"),
        pytest.param(["-i", "edge", "run"], Order("edge", OF_EDGE), id="an instance"),
        pytest.param(["--instance", "edge", "run"], Order("edge", OF_EDGE), id="spelled out"),
        pytest.param(["--instance=edge", "run"], Order("edge", OF_EDGE), id="in one word"),
        pytest.param(["run", "-c", str(EDGE)], Order("default", EDGE), id="a file"),
        pytest.param(["run", "--config", str(EDGE)], Order("default", EDGE), id="a file, spelled out"),
        pytest.param(["run", f"--config={EDGE}"], Order("default", EDGE), id="a file, in one word"),
        pytest.param(["-i", "edge", "run", "-c", str(EDGE)], Order("edge", EDGE), id="both"),
    ],
)
def test_the_usual_order_is_understood(arguments: list[str], expected: Order) -> None:
    assert plain_order(arguments, {}) == expected == by_library(arguments)


def test_the_environment_names_an_instance_that_the_order_does_not() -> None:
    environment = {"XDPDIRECTOR_INSTANCE": "lab"}

    assert plain_order(["run"], environment) == Order("lab", OF_LAB)
    assert plain_order(["-i", "edge", "run"], environment) == Order("edge", OF_EDGE)


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param([], id="nothing"),
        pytest.param(["status"], id="another command"),
        pytest.param(["run", "--help"], id="help"),
        pytest.param(["--help", "run"], id="help, before it"),
        pytest.param(["run", "-c"], id="no file"),
        pytest.param(["run", "--config="], id="an empty file"),
        pytest.param(["run", "--config", "-x"], id="an option for a file"),
        pytest.param(["-i", "run"], id="a name that is the command's"),
        pytest.param(["--socket", "/run/s", "run"], id="an option that is not for it"),
        pytest.param(["-iedge", "run"], id="in one word, short"),
        pytest.param(["run", "-c", "a", "-c", "b"], id="twice"),
        pytest.param(["run", "now"], id="a word too many"),
        pytest.param(["-i", "director", "run"], id="an instance whose file is another's"),
        pytest.param(["-i", "Edge!", "run"], id="a name that no instance may have"),
    ],
)
def test_all_else_is_left_to_the_library(arguments: list[str]) -> None:
    assert plain_order(arguments, {}) is None
