# SPDX-License-Identifier: Apache-2.0
"""A lesson becomes slides: its own Markdown, cut into pages at headings and between paragraphs.

The result is for Marp: pages with `---` between them. Nothing is left out but links, whose texts stay, and nothing
is added but the trainer's notes, which only the presenter sees. A question gets a page without its answer first.
Knows how large letters are in docs/slides/theme.css; runs nothing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil
from textwrap import dedent

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOM = 14.0
"""Lines of text on a page below its heading."""
COLUMNS, CODE_COLUMNS = 76, 97
"""Letters in a line of text, and of code."""
LARGE_COLUMNS, LARGE_LINES = 90, 16
"""Of a drawing with the class `large`."""
_CODE_LINE, _TABLE_LINE = 25 / 36, 38 / 36  # lines of text
_GAP = 16 / 36
_CODE_BORDER = 1.2
_HEAD = """\
---
marp: true
theme: xdpdirector
paginate: true
footer: "XDP Director · {title}"
---
"""
_QUESTION = re.compile(r"(?P<number>\d+\.)\s+(?P<question>\*[^*]+\*)\s+(?P<answer>.+)", re.DOTALL)
_LINK = re.compile(r"\[([^\]]+)\]\([^)\s]+\)")


@dataclass(frozen=True)
class Block:
    """A paragraph, an item of a list, a table or a piece of code. `lines`: its height, in lines of text."""

    text: str
    lines: float
    is_item: bool = False


@dataclass(frozen=True)
class Page:
    heading: str
    text: str
    kind: str = ""
    """A class of the theme's."""

    def __str__(self) -> str:
        kind = f"<!-- _class: {self.kind} -->\n\n" if self.kind else ""
        return f"{kind}{self.heading}\n\n{self.text}\n"


def deck(lesson: str, notes: str = "") -> str:
    """Marp's Markdown of a lesson's; `notes`: of the trainer's, on the first page."""
    title, sections = _sections(lesson)
    pages = [page for heading, text in sections for page in _pages(title, heading, text)]
    first, *others = (str(page) for page in pages)
    noted = f"{first}\n<!--\n{_harmless(notes)}\n-->\n" if notes else first
    return _HEAD.format(title=title) + "\n" + "\n---\n\n".join([noted, *others])


def _harmless(notes: str) -> str:
    """In a comment, which two hyphens and a bracket would end."""
    return _LINK.sub(r"\1", notes).replace("-->", "→").strip()


def _sections(lesson: str) -> tuple[str, list[tuple[str, str]]]:
    """The title, and what stands under each heading of the second level."""
    head, *parts = re.split(r"^## ", lesson, flags=re.MULTILINE)
    title = head.strip().removeprefix("# ").splitlines()[0]
    return title, [(heading, text.strip()) for heading, text in (part.split("\n", 1) for part in parts)]


def _pages(title: str, heading: str, text: str) -> Iterator[Page]:
    if heading == "Aim":
        yield Page(f"# {title}", _LINK.sub(r"\1", " ".join(text.split())), "title")
        return
    blocks = _blocks(_LINK.sub(r"\1", text))
    if heading == "Drawing":
        for block in blocks:
            fence, *lines, end = block.text.splitlines()
            drawn = dedent("\n".join(lines))
            yield Page(
                f"## {heading}", f"{fence}\n{drawn}\n{end}", f"drawing {_size(drawn.splitlines())}".strip()
            )
        return
    shown = _capital(title.split(": ", 1)[-1]) if heading == "Text" else heading
    plain: list[Block] = []
    for block in blocks:
        if heading == "Questions" and (question := _QUESTION.fullmatch(block.text)):
            asked = f"{question['number']} {question['question']}"
            yield Page(f"## {heading}", asked, "question")
            yield Page(f"## {heading}", f"{asked}\n\n{question['answer']}", "question")
        else:
            plain.append(block)
    yield from (Page(f"## {shown}", page) for page in _packed(plain))


def _capital(title: str) -> str:
    return title[:1].upper() + title[1:]


def _size(lines: Sequence[str]) -> str:
    """The class of a drawing, by the letters that it needs."""
    widest = max(map(len, lines))
    if widest <= LARGE_COLUMNS and len(lines) <= LARGE_LINES:
        return "large"
    return "wide" if widest > CODE_COLUMNS else ""


def _packed(blocks: Sequence[Block]) -> Iterator[str]:
    """As many on a page as have room. A page does not end with the sentence that announces what comes next."""
    page: list[Block] = []
    for block in _pieces(blocks):
        if page and sum(each.lines for each in (*page, block)) > ROOM:
            announced = [page.pop()] if len(page) > 1 and page[-1].text.endswith(":") else []
            yield _joined(page)
            page = announced
        page.append(block)
    if page:
        yield _joined(page)


def _joined(page: Sequence[Block]) -> str:
    """Items of one list have no empty line between them."""
    text = page[0].text
    for before, block in pairwise(page):
        text += ("\n" if before.is_item and block.is_item else "\n\n") + block.text
    return text


def _pieces(blocks: Sequence[Block]) -> Iterator[Block]:
    """Code that has no room on a page is cut before a command."""
    for block in blocks:
        if block.lines <= ROOM or not block.text.startswith("```"):
            yield block
            continue
        fence, *lines, end = block.text.splitlines()
        piece: list[str] = []
        for number, line in enumerate(lines):
            rest = lines[number:]
            is_command = re.match(r"[\w]*[#$] ", line) is not None
            following = [line] if not is_command else _command(rest)
            if piece and _code_height(piece + following) > ROOM:
                yield _code(fence, piece, end)
                piece = []
            piece.append(line)
        yield _code(fence, piece, end)


def _command(lines: Sequence[str]) -> list[str]:
    """The first line and what it prints, up to the next prompt."""
    count = 1
    while count < len(lines) and not re.match(r"[\w]*[#$] ", lines[count]):
        count += 1
    return list(lines[:count])


def _code(fence: str, lines: Sequence[str], end: str) -> Block:
    return Block("\n".join([fence, *lines, end]), _code_height(lines))


def _code_height(lines: Sequence[str]) -> float:
    rows = sum(max(1, ceil(len(line) / CODE_COLUMNS)) for line in lines)
    return rows * _CODE_LINE + _CODE_BORDER


def _blocks(text: str) -> list[Block]:
    """In their order; comments are left out."""
    lines = text.splitlines()
    found: list[Block] = []
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.map is None or not (token.level == 0 or (token.type, token.level) == ("list_item_open", 1)):
            continue
        source = "\n".join(lines[slice(*token.map)]).rstrip()
        if block := _block(token, source):
            found.append(block)
    return found


def _block(token: Token, source: str) -> Block | None:
    """None for what is no block of its own: a list, whose items are; a comment."""
    if token.type == "fence":
        return Block(source, _code_height(source.splitlines()[1:-1]))
    if token.type == "table_open":
        return Block(source, len(source.splitlines()) * _TABLE_LINE + _GAP)
    if token.type in ("paragraph_open", "list_item_open"):
        text = " ".join(source.split())
        # Marp shows an item with an asterisk only after one more key
        text = f"- {text[2:]}" if token.type == "list_item_open" and text.startswith("* ") else text
        return Block(text, ceil(len(text) / COLUMNS) + _GAP, token.type == "list_item_open")
    return None
