# SPDX-License-Identifier: Apache-2.0
"""The text of keepalived.conf(5): statements with words and blocks, out of lines, quotes, comments, definitions,
conditions, sequences and files that it includes. Knows no keyword but those.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

from xdpdirector.lvs.imported import Origin

_DEFINITION = re.compile(r"\$([A-Za-z_][A-Za-z0-9_]*)\s*=\s?(.*)", re.DOTALL)
_USE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)\}|\$([A-Za-z_][A-Za-z0-9_]*)")
_CONDITION = re.compile(r"@(\^?)([^\s]*)\s+(.*)", re.DOTALL)
_SEQUENCE = re.compile(r"~SEQ\(\s*(\w+)\s*,\s*([^)]*)\)")
_LIST = re.compile(r"~LST\(\s*(\{[^}]*\}|\w+)\s*,\s*([^)]*)\)")
_MOST = 65536
"""Lines that sequences may make."""

Includer = Callable[[str, str], Sequence[tuple[str, str]] | None]
"""From a pattern, and the file it stands in, to names and texts; None when there is none such."""


@dataclass
class Statement:
    """`block` is None where none follows."""

    words: list[str]
    origin: Origin
    block: list[Statement] | None = None

    @property
    def keyword(self) -> str:
        return self.words[0]

    @property
    def arguments(self) -> list[str]:
        return self.words[1:]


@dataclass
class Parsed:
    """`passed`: lines that were passed over, and why."""

    statements: list[Statement] = field(default_factory=list)
    passed: list[tuple[Origin, str]] = field(default_factory=list)


def parse(text: str, file: str, include: Includer, config_id: str | None) -> Parsed:
    """`config_id`: which lines with `@ID` hold; None: nobody knows."""
    reading = _Reading(include, config_id)
    lines = list(reading.lines(text, file))
    return Parsed(_statements(lines), reading.passed)


class _Reading:
    """Of text to lines that hold, with everything replaced."""

    def __init__(self, include: Includer, config_id: str | None) -> None:
        self._include, self._config_id = include, config_id
        self._definitions: dict[str, str] = {}
        self._made = 0
        self._open: list[str] = []
        self.passed: list[tuple[Origin, str]] = []

    def lines(self, text: str, file: str) -> Iterator[tuple[str, Origin]]:
        if file in self._open:
            self.passed.append((Origin(file, 1, "include"), "it includes itself"))
            return
        self._open.append(file)
        for number, line in _joined(text):
            origin = Origin(file, number, " ".join(line.split()))
            held = self._held(line.strip(), origin)
            if held is not None:
                yield from self._replaced(held, origin)
        self._open.pop()

    def _held(self, line: str, origin: Origin) -> str | None:
        """Without its condition; None where it does not hold."""
        match = _CONDITION.fullmatch(line)
        if not match:
            return line
        negated, name, rest = match.groups()
        if self._config_id is None:
            self.passed.append((origin, "it holds for some config-id only: say which with --config-id"))
            return None
        if (name == self._config_id) == bool(negated):
            self.passed.append((origin, f"it is not for the config-id {self._config_id}"))
            return None
        return rest.strip()

    def _replaced(self, line: str, origin: Origin) -> Iterator[tuple[str, Origin]]:
        defined = _DEFINITION.fullmatch(line)
        if defined:
            self._definitions[defined[1]] = self._filled(defined[2])
            return
        filled = self._filled(line)
        for text in [filled] if "\n" in line else filled.split("\n"):
            for each in self._repeated(text.strip()):
                words = words_of(each)
                if words and words[0] in ("include", "includer", "includem", "includew", "includeb"):
                    yield from self._included(words[1:], origin)
                elif words:
                    yield each, origin

    def _filled(self, text: str, depth: int = 0) -> str:
        if depth > 8:
            return text

        def value(match: re.Match[str]) -> str:
            name = match[1] or match[2]
            return self._filled(self._definitions[name], depth + 1) if name in self._definitions else match[0]

        return _USE.sub(value, text)

    def _repeated(self, line: str) -> Iterator[str]:
        """Once for each value of its sequences and lists."""
        ranges: list[list[dict[str, str]]] = []
        for pattern, values in ((_SEQUENCE, _sequence), (_LIST, _listed)):
            for match in pattern.finditer(line):
                ranges.append(values(match[1], match[2]))
            line = pattern.sub("", line)
        for chosen in product(*ranges):
            self._made += 1
            if self._made > _MOST:
                return
            said = {name: value for each in chosen for name, value in each.items()}
            yield _USE.sub(lambda match, said=said: said.get(match[1] or match[2], match[0]), line).strip()  # type: ignore[misc]

    def _included(self, patterns: Sequence[str], origin: Origin) -> Iterator[tuple[str, Origin]]:
        for pattern in patterns:
            found = self._include(pattern, origin.file)
            if found is None:
                self.passed.append((origin, f"there is no file {pattern} here"))
            for name, text in found or ():
                yield from self.lines(text, name)


def _sequence(name: str, text: str) -> list[dict[str, str]]:
    numbers = [int(each, 0) for each in text.split(",") if each.strip()]
    start, step, end = (1, 1, numbers[0]) if len(numbers) == 1 else (numbers[0], 1, numbers[-1])
    if len(numbers) > 2:
        step = numbers[1]
    elif end < start:
        step = -1
    return [{name: str(value)} for value in range(start, end + (1 if step > 0 else -1), step)] if step else []


def _listed(name: str, text: str) -> list[dict[str, str]]:
    if not name.startswith("{"):
        return [{name: each.strip()} for each in text.split(",")]
    names = [each.strip() for each in name.strip("{}").split(",")]
    return [
        dict(zip(names, (each.strip() for each in group.split(",")), strict=False))
        for group in re.findall(r"\{([^}]*)\}", text)
    ]


def _joined(text: str) -> Iterator[tuple[int, str]]:
    """Lines without comments, those that go on joined: behind a backslash, and within quotes."""
    kept, begun = "", 0
    for number, line in enumerate(text.splitlines(), 1):
        line = _without_comment(kept + line)
        begun = begun or number
        if line.endswith("\\"):
            kept = line[:-1] + "\n" if line.lstrip().startswith("$") else line[:-1] + " "
        elif line.count('"') - line.count('\\"') & 1 and line.count('"') % 2:
            kept = line + "\n"
        else:
            if line.strip():
                yield begun, line
            kept, begun = "", 0
    if kept.strip():
        yield begun, kept


def _without_comment(line: str) -> str:
    """`#` and `!` begin one where a word would begin, and `#` anywhere outside quotes."""
    quoted = False
    for place, sign in enumerate(line):
        if sign == '"' and line[place - 1 : place] != "\\":
            quoted = not quoted
        elif sign in "#!" and not quoted and (place == 0 or line[place - 1].isspace()):
            return line[:place].rstrip()
    return line.rstrip()


_WORD = re.compile(r'"((?:[^"\\]|\\.)*)"?|([{}])(?=\s|$)|([^\s"]+)', re.DOTALL)


def words_of(line: str) -> list[str]:
    """Split at white space; what stands in quotes is one word, a brace by itself is one, too."""
    words = []
    for match in _WORD.finditer(line):
        if match[3] is not None:
            words += (
                [part for part in re.split(r"([{}])$", match[3]) if part]
                if match[3][-1] in "{}" and "${" not in match[3]
                else [match[3]]
            )
        else:
            words.append(match[2] or re.sub(r"\\(.)", r"\1", match[1]))
    return words


def _statements(lines: Sequence[tuple[str, Origin]]) -> list[Statement]:
    top: list[Statement] = []
    stack: list[list[Statement]] = [top]
    for line, origin in lines:
        words: list[str] = []
        for word in [*words_of(line), "\n"]:
            if word == "{":
                owner = _made(words, origin, stack) if words else (stack[-1][-1] if stack[-1] else None)
                if owner is not None:
                    owner.block = owner.block or []
                    stack.append(owner.block)
                words = []
            elif word in ("}", "\n"):
                if words:
                    _made(words, origin, stack)
                words = []
                if word == "}" and len(stack) > 1:
                    stack.pop()
            else:
                words.append(word)
    return top


def _made(words: list[str], origin: Origin, stack: list[list[Statement]]) -> Statement:
    statement = Statement(words, origin)
    stack[-1].append(statement)
    return statement


def by_keyword(statements: Sequence[Statement]) -> Mapping[str, Statement]:
    """The last of each: it is the one that holds."""
    return {each.keyword: each for each in statements}
