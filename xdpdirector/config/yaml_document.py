# SPDX-License-Identifier: Apache-2.0
"""A YAML 1.2 text as plain values, and where in the text each of them stands.

Works on the parser's node graph, so that repeated keys, places and aliases are in our own hands: keys are
taken as written, an alias is followed only so far. Knows YAML; must not know what the keys mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, NoReturn, TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, StringMark, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError
from ruamel.yaml.scanner import Scanner

from xdpdirector.errors import ConfigurationError

Path: TypeAlias = tuple[str | int, ...]
Place: TypeAlias = tuple[int, int]

MOST_VALUES = 250_000
DEEPEST = 32

_TEXT = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:timestamp"}
_VALUES = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float")}
_BARE_IPV6 = re.compile(r"(^|[\s,\[])\[[0-9A-Fa-f.]*:[0-9A-Fa-f:.]*\]:")
_LINE_BREAK = re.compile("[\r\n\x85\u2028\u2029]")
_STRUCTURE = re.compile(r"[-?:]([ \t]|$)|[^#]*:([ \t]|$)")
_SYNTAX = [
    ("expected a single document", "a second document begins here: keep one and remove the '---' line"),
    ("undefined alias", "there is no anchor of that name above: define it with '&', or quote the value"),
    ("mapping values are not allowed", "a ':' cannot stand here: check the indentation, or quote the value"),
    ("found duplicate anchor", "this anchor stands twice: rename one"),
]


@dataclass
class Document:
    """`data` is made of dict, list, str, int, float, bool and None; lines and columns count from 1."""

    source: str
    data: object = None
    places: dict[Path, Place] = field(default_factory=dict)

    def place(self, path: Path) -> Place:
        """Where the key or item stands; where that is not written, its nearest container."""
        while path and path not in self.places:
            path = path[:-1]
        return self.places.get(path, (1, 1))

    def place_within(self, path: Path, sentence: str) -> Place:
        """The last value below `path` that the sentence names; only values with a digit are sure enough."""
        named = [
            (len(text), place)
            for inside, place in self.places.items()
            if inside[: len(path)] == path and _names(sentence, text := str(self._value(inside)))
        ]
        return max(named, default=(0, self.place(path)))[1]

    def _value(self, path: Path) -> object:
        value: Any = self.data
        for part in path:
            value = value[part]
        return "" if isinstance(value, (dict, list)) else value


def parse(text: str, source: str) -> Document:
    """The document; ConfigurationError with line and column for what is not YAML or goes too far."""
    yaml = YAML(typ="safe", pure=True)
    yaml.Scanner = _Scanner
    try:
        node = yaml.compose(text)
    except ReaderError as error:
        before = text[: error.position]
        _refuse(
            f"the control character U+{ord(text[error.position]):04X} is not allowed in YAML: remove it",
            source,
            (before.count("\n") + 1, len(before) - before.rfind("\n")),
        )
    except MarkedYAMLError as error:
        _refuse(_explained(error, text), source, _place(error.problem_mark or error.context_mark))
    except RecursionError:
        _refuse("the brackets are nested too deeply: no key of the director needs that", source, (1, 1))
    except YAMLError as error:
        _refuse(f"this is not YAML: {str(error).splitlines()[0]}", source, (1, 1))
    document = Document(source)
    if node is not None:
        document.data = _Walk(document, yaml).value(node, (), ())
    return document


class _Scanner(Scanner):
    """Takes tabs between tokens and before comments as white space, as YAML 1.2 (6.2) does; ruamel does so between
    brackets only. Indentation is made of spaces."""

    def scan_to_next_token(self) -> Any:
        super().scan_to_next_token()
        while not self.flow_level and self.reader.peek() == "\t" and self._separates():
            while self.reader.peek() in (" ", "\t"):
                self.reader.forward()
            super().scan_to_next_token()

    def _separates(self) -> bool:
        """Whether the tab at which the reader stands is no indentation, not even of a mapping behind a dash."""
        reader = self.reader
        before = reader.buffer[reader.pointer - reader.column : reader.pointer].strip(" \t")
        behind = _LINE_BREAK.split(reader.buffer[reader.pointer :], 1)[0].strip(" \t\0")
        if not behind or behind.startswith("#"):
            return True
        return bool(before) and not (before[-1] in "-?" and _STRUCTURE.match(behind))


class _Walk:
    """From nodes to values, noting the places."""

    def __init__(self, document: Document, yaml: YAML) -> None:
        self._document, self._yaml = document, yaml
        self._count = 0

    def value(self, node: Node, path: Path, above: tuple[Node, ...]) -> object:
        self._document.places.setdefault(path, _place(node.start_mark))
        self._bound(node, above)
        tag = str(node.tag)
        if isinstance(node, ScalarNode):
            return self._scalar(node, tag)
        if isinstance(node, MappingNode) and tag == "tag:yaml.org,2002:map":
            return self._mapping(node, path, (*above, node))
        if isinstance(node, SequenceNode) and tag == "tag:yaml.org,2002:seq":
            inside = (*above, node)
            return [self.value(item, (*path, number), inside) for number, item in enumerate(node.value)]
        return self._refuse_tag(node, tag)

    def _bound(self, node: Node, above: tuple[Node, ...]) -> None:
        self._count += 1
        if any(node is one for one in above):
            self._refuse("this anchor contains an alias to itself: remove the alias", node)
        if len(above) > DEEPEST:
            self._refuse(f"more than {DEEPEST} levels are too deep: no key of the director needs that", node)
        if self._count > MOST_VALUES:
            self._refuse(f"with its aliases this is more than {MOST_VALUES} values: use fewer aliases", node)

    def _mapping(self, node: MappingNode, path: Path, above: tuple[Node, ...]) -> dict[str, object]:
        result: dict[str, object] = {}
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                self._refuse("a key must be a plain word, not a list or a mapping (a missing quote?)", key)
            if str(key.tag) == "tag:yaml.org,2002:merge":
                self._refuse(
                    "merge keys (<<) are not YAML 1.2: repeat the keys, or alias the whole value", key
                )
            name = str(key.value)
            inside = (*path, name)
            if name in result:
                line, _ = self._document.places[inside]
                self._refuse(f"the key '{name}' stands already in line {line}: remove one of the two", key)
            self._document.places[inside] = _place(key.start_mark)
            result[name] = self.value(value, inside, above)
        return result

    def _scalar(self, node: ScalarNode, tag: str) -> object:
        if tag in _TEXT:
            return str(node.value)
        if tag not in _VALUES:
            return self._refuse_tag(node, tag)
        try:
            value: object = self._yaml.constructor.construct_object(node)
        except (ValueError, YAMLError, KeyError):
            self._refuse(f"'{str(node.value)[:40]}' is no value of the type that it has here: quote it", node)
        return value

    def _refuse_tag(self, node: Node, tag: str) -> NoReturn:
        shown = tag.replace("tag:yaml.org,2002:", "!!")
        self._refuse(f"the tag '{shown}' is not for this file: write the value without it", node)

    def _refuse(self, detail: str, node: Node) -> NoReturn:
        _refuse(detail, self._document.source, _place(node.start_mark))


def _names(sentence: str, text: str) -> bool:
    """Whether the text stands in the sentence as a word of its own, and cannot be one by chance."""
    if len(text) < 3 or not any(letter.isdigit() for letter in text):
        return False
    return re.search(rf"(?<![^\s'\"]){re.escape(text)}(?![^\s'\":,.])", sentence) is not None


def _place(mark: StringMark | None) -> Place:
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _explained(error: MarkedYAMLError, text: str) -> str:
    """The parser's complaint as a sentence with a remedy."""
    problem = error.problem or "it cannot be read"
    number = _place(error.problem_mark)[0]
    line = "".join(text.split("\n")[number - 1 : number])
    if "\t" in line[: len(line) - len(line.lstrip())] or "'\\t'" in problem:
        return "a tab stands here: YAML is indented with spaces only"
    for part, sentence in _SYNTAX:
        if part in problem or part in (error.context or ""):
            return sentence
    if _BARE_IPV6.search(line):
        return "an IPv6 listener needs quotes, because YAML takes '[' for a list: \"[2001:db8::10]:80/tcp\""
    begin = f" ({error.context} that begins in line {_place(error.context_mark)[0]})" if error.context else ""
    return f"this is not YAML: {problem}{begin}: check the indentation, brackets and quotes"


def _refuse(detail: str, source: str, place: Place) -> NoReturn:
    raise ConfigurationError(detail, source=source, line=place[0], column=place[1]) from None
