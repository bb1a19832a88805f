# SPDX-License-Identifier: Apache-2.0
"""The reference of the command line is whole, and is that of the commands."""

import pytest

from dev import cli_reference
from xdpdirector.cli.app import command


def test_what_stands_in_the_checkout_is_not_stale() -> None:
    assert cli_reference.MARKDOWN.read_text() == cli_reference.markdown(), "run ./lab reference"


def test_all_commands_are_there() -> None:
    first = {each.name.split()[1] for each in cli_reference.commands()}

    assert first == {name for name, found in command().commands.items() if not found.hidden}


@pytest.mark.parametrize("found", cli_reference.commands(), ids=lambda found: found.name)
def test_every_command_and_option_says_what_it_is(found: cli_reference.Command) -> None:
    assert found.text
    for paragraph in found.text:
        assert paragraph.endswith((".", ":", ")")), paragraph
    for each in found.parameters:
        assert each.text.endswith("."), f"{found.name} {each.name}: give it a help text"
