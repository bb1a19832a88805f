# SPDX-License-Identifier: Apache-2.0
"""Console sessions in Markdown: which commands stand there, and what should come out of them. Pure.

    ```console
    $ sudo ./lab shell
    client# curl http://192.0.2.10/who        # a comment is the shell's affair
    backend1
    director# xdpdirector service add web \\
          --listen 192.0.2.10:80/tcp
    ...
    ```

A line that begins with a prompt (`$ `, `client# `, `director# `) is a command; one that ends with a backslash goes
on in the next. What follows is its output. `...` on a line of its own stands for any lines, inside a line for any
text; blanks count as one. A comment above a block changes what it means:

    <!-- not run: it takes two machines -->     the block is shown only
    <!-- numbers vary -->                       a number in the output stands for any number

A block of another language whose first line is `# file: NAME` is a file that the session finds in its directory.
Knows nothing of shells and labs.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROMPT = re.compile(r"(?P<prompt>(?:[a-z][a-z0-9]*)?[$#]) (?P<command>\S.*)")
FENCE = re.compile(r"(?P<indent> *)```(?P<language>\S*)")
REMARK = re.compile(r"<!-- (not run: (?P<why>.+)|(?P<vary>numbers vary)) -->")
FILE = re.compile(r"# file: (?P<name>[\w.-]+)")
ANY = "..."
NUMBER = re.compile(r"(?<![\w.:])\d+(\.\d+)?(?![\w:]|\.\w)")


@dataclass(frozen=True)
class Command:
    """`line` counts from 1, in the file. `expected` are the lines of its output."""

    prompt: str
    text: str
    expected: tuple[str, ...]
    line: int
    numbers_vary: bool = False

    def explains(self, output: str) -> bool:
        """Whether this is the output that stands there."""
        return re.fullmatch(self._pattern, _normal(output)) is not None

    @property
    def _pattern(self) -> str:
        parts = []
        for line in _normal("\n".join(self.expected)).splitlines():
            parts.append(r"(.*\n)*?" if line == ANY else self._line(line) + r"\n")
        return "".join(parts)

    def _line(self, line: str) -> str:
        return ".*".join(self._text(part) for part in line.split(ANY))

    def _text(self, text: str) -> str:
        if not self.numbers_vary:
            return re.escape(text)
        found, start = "", 0
        for number in NUMBER.finditer(text):
            found += re.escape(text[start : number.start()]) + r"\d+(\.\d+)?"
            start = number.end()
        return found + re.escape(text[start:])


@dataclass(frozen=True)
class File:
    name: str
    text: str


@dataclass(frozen=True)
class NotRun:
    line: int
    why: str


Step = Command | File | NotRun


def steps(markdown: str) -> Iterator[Step]:
    """In the document's order. ValueError for a console block that begins with no prompt."""
    remark = None
    for line, language, body in _blocks(markdown):
        if language == "<!--":
            remark = REMARK.fullmatch(body[0])
            continue
        if language == "console":
            if remark and remark["why"]:
                yield NotRun(line, remark["why"])
            else:
                yield from _commands(line, body, bool(remark))
        elif body and (named := FILE.fullmatch(body[0])):
            yield File(named["name"], "\n".join(body) + "\n")
        remark = None


def _blocks(markdown: str) -> Iterator[tuple[int, str, list[str]]]:
    """First line's number, language and lines of each fenced block; and of the remarks between them."""
    lines = enumerate(markdown.splitlines(), start=1)
    for number, line in lines:
        if REMARK.fullmatch(line.strip()):
            yield number, "<!--", [line.strip()]
        elif fence := FENCE.fullmatch(line):
            body = []
            for _, inner in lines:
                if inner.strip() == "```":
                    break
                body.append(inner.removeprefix(fence["indent"]))
            yield number + 1, fence["language"], body


def _commands(start: int, body: list[str], numbers_vary: bool) -> Iterator[Command]:
    place = 0
    while place < len(body):
        first = place
        found = PROMPT.fullmatch(body[place])
        if not found:
            raise ValueError(f"line {start + place} begins with no prompt: {body[place]}")
        text = found["command"]
        while text.endswith("\\"):
            place += 1
            text += "\n" + body[place]
        place += 1
        output = place
        while place < len(body) and not PROMPT.fullmatch(body[place]):
            place += 1
        yield Command(found["prompt"], text, tuple(body[output:place]), start + first, numbers_vary)


def _normal(text: str) -> str:
    """Blanks as one, none at a line's end, no empty lines at the end of all."""
    lines = [" ".join(line.split()) for line in text.splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return "".join(f"{line}\n" for line in lines)


def documents(checkout: Path) -> list[Path]:
    """README and all of docs/, in a fixed order."""
    return [checkout / "README.md", *sorted((checkout / "docs").glob("*.md"))]
