# SPDX-License-Identifier: Apache-2.0
"""A lesson becomes slides: all of its words, in their order, in pages that have room for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dev.documents.deck import ROOM, deck
from dev.documents.slides import notes_by_lesson

TRAINING = Path(__file__).parents[3] / "training"
LESSONS = sorted(TRAINING.glob("[0-9]*.md"))
LINK = re.compile(r"\[([^\]]+)\]\([^)\s]+\)")


def pages(text: str) -> list[str]:
    """Without the head, which Marp reads."""
    _, _, *parts = re.split(r"^---$", text, flags=re.MULTILINE)
    return [part.strip() for part in parts]


def words(text: str) -> list[str]:
    """Without marks of Markdown and comments."""
    plain = re.sub(r"<!--[\s\S]*?-->|^```\w*$|^#+ .*$|^[*-] ", "", LINK.sub(r"\1", text), flags=re.MULTILINE)
    return plain.split()


def lesson(**sections: str) -> str:
    parts = "".join(f"\n## {heading}\n\n{text}\n" for heading, text in sections.items())
    return f"# Lesson 9: a trial\n{parts}"


@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_no_word_of_a_lesson_is_left_out(path: Path) -> None:
    """A question stands on a page before it stands on that of its answer."""
    text = path.read_text()
    before, _, questions = text.partition("## Questions")

    shown = pages(deck(text))
    first = next(number for number, page in enumerate(shown) if "## Questions" in page)

    assert words("\n\n".join(shown[:first])) == words(before)
    assert set(words(questions)) == set(words("\n\n".join(shown[first:])))


def test_an_answer_comes_after_its_question() -> None:
    shown = pages(deck(lesson(Questions="1. *Why?* Because.\n2. *How?* By\n   [this](../docs/this.md).\n")))

    assert [words(page) for page in shown] == [
        ["1.", "*Why?*"],
        ["1.", "*Why?*", "Because."],
        ["2.", "*How?*"],
        ["2.", "*How?*", "By", "this."],
    ]


def test_long_code_is_cut_before_a_command() -> None:
    commands = [f"director# command {number}\nfirst line\nsecond line" for number in range(14)]
    code = "```console\n" + "\n".join(commands) + "\n```"

    shown = pages(deck(lesson(Solution=code)))

    assert len(shown) == 3
    for page in shown:
        assert page.splitlines()[2:4] == [
            "```console",
            next(each for each in page.splitlines() if "# command" in each),
        ]
        assert page.endswith("second line\n```")
        assert len(page.splitlines()) * 25 / 36 < ROOM + 3


def test_a_sentence_that_announces_code_stands_with_it() -> None:
    code = "```console\n" + "line\n" * 10 + "```"
    text = f"{'Words. ' * 60}\n\nThe commands:\n\n{code}\n"

    shown = pages(deck(lesson(Text=text)))

    assert (
        ["The commands:" in page for page in shown]
        == ["```console" in page for page in shown]
        == [False, True]
    )


def test_the_trainers_notes_are_a_comment_of_the_first_page() -> None:
    text = "# Notes\n\n## Two days\n\nA plan.\n\n## Lesson 9: a trial\n\nSay [this](x.md) --> that.\n"

    shown = pages(deck(lesson(Aim="You can.", Exercise="Do it."), notes_by_lesson(text)["9"]))

    assert "<!--\nSay this → that.\n-->" in shown[0]
    assert shown[0].count("-->") == 2  # of the page's class, and of the notes
    assert "Say" not in shown[1]


def test_each_lesson_has_notes() -> None:
    notes = notes_by_lesson((TRAINING / "trainer.md").read_text())

    assert [*notes] == [path.name.split("-")[0] for path in LESSONS]
    for text in notes.values():
        for part in ("Aim:", "Times:", "What goes wrong:", "Asked as well:"):
            assert f"\n{part}" in f"\n{text}"
        minutes = [int(found) for found in re.findall(r"(\d+) min", text)]
        assert sum(minutes) == 60
