# SPDX-License-Identifier: Apache-2.0
"""What pydantic found wrong, as sentences for people: the thing, what is wrong with it, the remedy.

Serves the configuration file and the API alike: a problem has its path into the document that was sent.
Known keys and ranges come from the model's JSON Schema. Must not know files, lines or HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

Path = tuple[str | int, ...]
Schema = dict[str, Any]

MOST_FAULTS = 100
"""What is told of a document: who has made thousands of faults has made one of them thousands of times."""

_SINGULAR = {"services": "service", "backends": "backend"}
_NO_PORT = "a backend has no port, because direct routing keeps the destination port"
_HINTS = {("BackendSpec", "port"): _NO_PORT, ("BackendCreate", "port"): _NO_PORT}
_PATTERNS = {
    "path": "must begin with '/' and have no spaces",
    "host": "must be a name without spaces",
    "interfaces": "cannot be an interface's name: 1 to 15 characters of ASCII, no spaces, no '/', no ':'",
}


@dataclass(frozen=True)
class Problem:
    """`path` leads to the key or item at fault; `of_whole` when the parts of what stands there contradict."""

    path: Path
    sentence: str
    of_whole: bool = False

    @property
    def pointer(self) -> str:
        """As JSON pointer (RFC 6901)."""
        return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in self.path)


def problems(error: ValidationError, document: object, model: type[BaseModel]) -> list[Problem]:
    """All that is wrong with `document` according to `model`, in the model's order."""
    return problems_in(error.errors(include_url=False), document, _schema(model))


def problems_in(details: Sequence[ErrorDetails], document: object, schema: Schema) -> list[Problem]:
    """The same for what pydantic said already, as far as it is told, and the JSON Schema that the document should
    follow."""
    faults = [_Fault(each, document, schema) for each in details[:MOST_FAULTS]]
    return [_problem(fault) for fault in faults if not fault.follows_from_another(faults)]


@lru_cache(maxsize=16)
def _schema(model: type[BaseModel]) -> Schema:
    return model.model_json_schema()


class _Fault:
    """One of pydantic's errors: its `loc` as a path into the document, and the schema that stands there."""

    def __init__(self, details: ErrorDetails, document: object, root: Schema) -> None:
        self.kind, self.value = details["type"], details["input"]
        self.context: dict[str, Any] = details.get("ctx", {})
        self.message = details["msg"][:1].lower() + details["msg"][1:]
        self.is_key = details["loc"][-1:] == ("[key]",)
        self._root = root
        self.path, self.schema = self._walk(details["loc"], document)

    def follows_from_another(self, faults: list[_Fault]) -> bool:
        """pydantic also calls a list too short when its only item is wrong."""
        return self.kind == "too_short" and any(
            fault is not self and fault.path[: len(self.path)] == self.path for fault in faults
        )

    @property
    def name(self) -> str:
        """The key that the value belongs to, also for an item of a list."""
        return next((part for part in reversed(self.path) if isinstance(part, str)), "value")

    def _walk(self, loc: Path, document: object) -> tuple[Path, Schema]:
        """Follow `loc`, which names the branch of a tagged union as if it were a key."""
        path: Path = ()
        node, schema = document, self._resolved(self._root, document)
        for part in loc:
            if part == "[key]":
                break
            if part == schema.get("tag"):
                schema = {**schema, "tag": None}
                continue
            path, node = (*path, part), _child(node, part)
            inside = _below(schema, part)
            # Above an unknown key stays the schema that does not know it.
            schema = schema if inside is None else self._resolved(inside, node)
        return path, schema

    def _resolved(self, schema: Schema, node: object) -> Schema:
        """Without `$ref`, without `null` beside it, and the branch that the tag in the document chooses."""
        while True:
            if "$ref" in schema:
                schema = self._root["$defs"][schema["$ref"].rpartition("/")[2]]
            elif "discriminator" in schema:
                tag = _child(node, schema["discriminator"]["propertyName"])
                branch = schema["discriminator"]["mapping"].get(tag) if isinstance(tag, str) else None
                return {**self._resolved({"$ref": branch}, node), "tag": tag} if branch else schema
            elif "oneOf" in schema:  # words, or a mapping: their tags in pydantic's `loc` are called so
                tag = "mapping" if isinstance(node, dict) else "word"
                branch = next(one for one in schema["oneOf"] if ("$ref" in one) == (tag == "mapping"))
                return {**self._resolved(branch, node), "tag": tag}
            elif {"type": "null"} in schema.get("anyOf", []):
                schema = next(one for one in schema["anyOf"] if one != {"type": "null"})
            else:
                return schema


def _child(node: object, part: object) -> object:
    if isinstance(node, dict):
        return node.get(part)
    if isinstance(node, (list, tuple)) and isinstance(part, int) and part < len(node):
        return node[part]
    return None


def _below(schema: Schema, part: object) -> Schema | None:
    """The schema of one key or item; None for an unknown key."""
    found: Schema | None
    if isinstance(part, int):
        found = schema.get("items")
    elif "patternProperties" in schema:
        found = next(iter(schema["patternProperties"].values()))
    else:
        found = schema.get("properties", {}).get(part)
    return found


def _problem(fault: _Fault) -> Problem:
    path = fault.path
    of_container = fault.is_key or fault.kind in ("missing", "extra_forbidden")
    subject = _subject(path[:-1] if of_container else path)
    sentence = _SENTENCES.get(fault.kind, _other)(fault)
    if fault.kind == "union_tag_invalid":
        path = (*path, _tag_key(fault))
    of_whole = fault.kind == "value_error" and isinstance(fault.value, dict)
    return Problem(path, f"{subject}: {sentence}" if subject else sentence, of_whole)


def _subject(path: Path) -> str:
    """`weight of backend 'web1' of service 'web'`."""
    words: list[str] = []
    parts = list(path)
    while parts:
        part = parts.pop(0)
        if isinstance(part, int):
            words.append(f"item {part + 1}")
        elif part in _SINGULAR and parts:
            words.append(f"{_SINGULAR[part]} {_shown(parts.pop(0))}")
        else:
            words.append(part)
    return " of ".join(reversed(words))


def _shown(value: object) -> str:
    """A value in a sentence, whatever it is and however long."""
    if value is None:
        return "nothing"
    if isinstance(value, (dict, list, tuple)):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = str(value) if len(str(value)) <= 60 else str(value)[:57] + "..."
    return f"'{text}'" if isinstance(value, str) else text


def _unknown_key(fault: _Fault) -> str:
    key, keys = str(fault.path[-1]), list(fault.schema.get("properties", {}))
    if hint := _HINTS.get((fault.schema.get("title", ""), key)):
        return f"unknown key '{key}': {hint}"
    from difflib import get_close_matches  # of those who made a mistake

    if close := get_close_matches(key, keys, 1):
        return f"unknown key {_shown(key)}: did you mean '{close[0]}'?"
    return f"unknown key {_shown(key)}: the keys there are {', '.join(keys)}"


def _missing(fault: _Fault) -> str:
    return f"the key '{fault.path[-1]}' is missing: add it"


def _not_a_mapping(fault: _Fault) -> str:
    if fault.value is None:
        return "there is nothing: write its keys, indented, or remove it"
    thing = "" if fault.path else "the document "
    return f"{thing}must hold keys and values, not {_shown(fault.value)}"


def _not_a_list(fault: _Fault) -> str:
    shown = _shown(fault.value)
    scalar = isinstance(fault.value, (str, int, float))
    return f"must be a list, not {shown}" + (f": write [{shown.replace(chr(39), chr(34))}]" if scalar else "")


def _not_text(fault: _Fault) -> str:
    return f"must be text, not {_shown(fault.value)}: put it in quotes"


def _tag_key(fault: _Fault) -> str:
    return str(fault.context["discriminator"]).strip("'")


def _no_tag(fault: _Fault) -> str:
    tags = fault.schema.get("discriminator", {}).get("mapping", {})
    return f"the key '{_tag_key(fault)}' is missing: use one of {', '.join(sorted(tags))}"


def _unknown_tag(fault: _Fault) -> str:
    tags = sorted(str(fault.context["expected_tags"]).replace("'", "").split(", "))
    return f"unknown {_tag_key(fault)} '{fault.context['tag']}': use one of {', '.join(tags)}"


def _unknown_choice(fault: _Fault) -> str:
    return f"unknown {fault.name} {_shown(fault.value)}: use {fault.context['expected']}"


def _range(fault: _Fault) -> str:
    """`: use 0 to 65535`, or nothing."""
    least, most = fault.schema.get("minimum"), fault.schema.get("maximum")
    return "" if least is None or most is None else f": use {least} to {most}"


def _not_in_range(fault: _Fault) -> str:
    return f"{_shown(fault.value)} is out of range{_range(fault)}"


def _not_a_flag(fault: _Fault) -> str:
    return f"{_shown(fault.value)} is neither true nor false"


def _not_whole(fault: _Fault) -> str:
    return f"{_shown(fault.value)} is not a whole number{_range(fault)}"


def _pattern(fault: _Fault) -> str:
    if fault.is_key:
        rule = (
            "cannot be a name: use letters, digits, '.', '_' and '-', with a letter or digit first and last"
        )
    else:
        rule = _PATTERNS.get(fault.name, f"must match {fault.context.get('pattern')}")
    return f"{_shown(fault.value)} {rule}"


def _too_long(fault: _Fault) -> str:
    limit = fault.context["max_length"]
    if isinstance(fault.value, str):
        return f"{_shown(fault.value)} has {len(fault.value)} characters: {limit} at most"
    return f"there are {fault.context.get('actual_length') or 'too many'}: {limit} at most"


def _too_short(fault: _Fault) -> str:
    return f"there must be {fault.context['min_length']} at least"


def _of_the_model(fault: _Fault) -> str:
    return str(fault.context["error"])


def _other(fault: _Fault) -> str:
    return f"{_shown(fault.value)} cannot be used: {fault.message}"


_SENTENCES: dict[str, Callable[[_Fault], str]] = {
    "extra_forbidden": _unknown_key,
    "missing": _missing,
    "value_error": _of_the_model,
    "union_tag_not_found": _no_tag,
    "union_tag_invalid": _unknown_tag,
    "string_pattern_mismatch": _pattern,
    "too_short": _too_short,
    "string_too_short": _too_short,
    "string_type": _not_text,
    "bool_type": _not_a_flag,
    **dict.fromkeys(("enum", "literal_error"), _unknown_choice),
    **dict.fromkeys(("too_long", "string_too_long"), _too_long),
    **dict.fromkeys(("model_type", "model_attributes_type", "dict_type"), _not_a_mapping),
    **dict.fromkeys(("tuple_type", "list_type"), _not_a_list),
    **dict.fromkeys(("greater_than_equal", "less_than_equal"), _not_in_range),
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_from_float", "int_parsing_size", "finite_number"), _not_whole
    ),
}
