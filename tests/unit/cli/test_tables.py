# SPDX-License-Identifier: Apache-2.0
"""Columns, colours, and nothing that a terminal would take for a command."""

from __future__ import annotations

from xdpdirector.cli.tables import Lines, Table, Word, painted

RED = "\x1b[31m{}\x1b[0m"


def table() -> Table:
    made = Table("NAME >COUNT STATE")
    made.add_row("web", "1,234", Word("up", "green"))
    made.add_row("a-longer-name", "7", Word("down", "red"))
    made.add_row(Lines("two\nlines"), "", "")
    made.add_row("short")
    return made


def test_columns_are_aligned() -> None:
    assert list(table().lines(colours=False)) == [
        "NAME           COUNT  STATE",
        "web            1,234  up",
        "a-longer-name      7  down",
        "two",
        "lines",
        "short",
    ]


def test_colours_take_no_room() -> None:
    # when
    plain, coloured = (list(table().lines(colours=colours)) for colours in (False, True))

    # then
    assert coloured[2].endswith(RED.format("down"))
    assert [line.replace("\x1b[32m", "").replace("\x1b[31m", "").replace("\x1b[1m", "").replace("\x1b[0m", "")
            for line in coloured] == plain  # fmt: skip


def test_facts_have_no_heading() -> None:
    # given
    made = Table("NAME VALUE", show_header=False)

    # when
    made.add_row("state", "up")

    # then
    assert list(made.lines(colours=True)) == ["state  up"]


def test_what_a_backend_says_is_no_command_to_the_terminal() -> None:
    # given
    made = Table("REASON")

    # when
    made.add_row("it said \x1b]0;owned\x07\x9b2J")

    # then
    assert "\x1b" not in "".join(made.lines(colours=False))


def test_styles() -> None:
    assert painted("x", "bold red") == "\x1b[1;31mx\x1b[0m"
    assert painted("x", "") == "x"


def test_text_from_outside_makes_no_rows() -> None:
    """Such as the reason of a drain."""
    made = Table("NAME REASON")
    made.add_row("web1", "x\nweb2  all is well")

    assert list(made.lines(colours=False)) == ["NAME  REASON", "web1  x\\nweb2  all is well"]
