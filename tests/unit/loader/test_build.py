# SPDX-License-Identifier: Apache-2.0
"""Where a program's stages stand in the map that all programs of an instance share."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import NoReturn

from xdpdirector.loader import bcc_module, source
from xdpdirector.loader.build import EXPLAINING, STAGES_APART, Build
from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths


def build(*, explains: bool) -> Build:
    return Build(InstancePaths("any"), Sizes(), source.program(), explains)


def test_there_is_room_for_all_stages_of_both_programs() -> None:
    # given
    text = source.inline(source.program())
    stages = source.enums(text)["stage"]["STAGES"]

    # when
    room = int(re.search(r'PINNED\("prog", u32, u32, stages, (\d+)\)', text)[1])  # type: ignore[index]

    # then
    assert stages <= EXPLAINING
    assert EXPLAINING + stages <= STAGES_APART
    assert room >= 256 * STAGES_APART


def test_no_map_has_its_value_as_its_second_field() -> None:
    """BCC makes code that prints it as text: with 65,000 backends that took 80 s of compilation."""
    # given
    text = source.without_comments(source.inline(source.program()))

    # when
    structs = re.findall(r"struct (\S+)_table_t \{(.*?)\}", text.replace("\\", ""), re.DOTALL)
    seconds = {name: body.split(";")[1].split()[-1] for name, body in structs}

    # then
    assert "BPF_TABLE" not in text
    assert seconds == {"name##": "not_as_text", "decisions": "leaf", "ports": "leaf"}  # numbers


def test_the_program_that_explains_is_the_same_text_with_stages_of_its_own() -> None:
    # given
    forwards, explains = build(explains=False), build(explains=True)

    # when
    differing = {*forwards.flags} ^ {*explains.flags}

    # then
    assert forwards.text == explains.text
    assert forwards.pins == explains.pins
    assert differing == {
        "-DDRY_RUN=0",
        "-DDRY_RUN=1",
        f"-DSTAGES_AT={forwards.stages_at}",
        f"-DSTAGES_AT={forwards.stages_at + EXPLAINING}",
    }


def test_the_program_is_another_where_the_order_of_stores_is_not_kept() -> None:
    # given
    usual, weak = (replace(build(explains=False), keeps_order=kept) for kept in (True, False))

    # then
    assert {*weak.flags} - {*usual.flags} == {"-DWEAK_ORDER"}
    assert weak.program_digest != usual.program_digest
    assert weak.pins == usual.pins


def test_a_place_that_cannot_be_found_hides_nothing(tmp_path: Path) -> None:
    """The verifier has refused the program, and now it cannot even be compiled again."""

    class Bcc:
        @staticmethod
        def BPF(**_options: object) -> NoReturn:  # noqa: N802, its name there
            raise OSError("no space left on device")

    assert bcc_module._place(Bcc, build(explains=False), tmp_path, ("director", 7)) == ""
