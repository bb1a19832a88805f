# SPDX-License-Identifier: Apache-2.0
"""Labels of services and backends, and selectors of those that have them, as Kubernetes writes both. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated

from pydantic import Field

from xdpdirector.model.fields import ByName

LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9._/-]{0,61}[A-Za-z0-9])?"
VALUE = r"(?:[A-Za-z0-9](?:[A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?"
MOST = 32

Labels = Annotated[
    dict[Annotated[str, Field(pattern=f"^{LABEL}$")], Annotated[str, Field(pattern=f"^{VALUE}$")]],
    Field(max_length=MOST),
    ByName(),
]

_KEY, _VALUE = re.compile(LABEL), re.compile(VALUE)
_LONGEST = 63

Test = Callable[[Mapping[str, str]], bool]


@dataclass(frozen=True)
class Selector:
    """Chooses what has all of `tests`."""

    tests: tuple[Test, ...]

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(test(labels) for test in self.tests)


def parse(text: str) -> Selector:
    """`rack=b3,tier!=db,gpu,!old,zone in (a,b)`; ValueError for what is none. Reads it in one go."""
    tests = tuple(_test(term.strip()) for term in _terms(text))
    if None in tests:
        raise ValueError(
            f"'{text[:60]}' is no selector: write it like rack=b3,tier!=db,gpu,!old or zone in (a,b)"
        )
    return Selector(tuple(test for test in tests if test))


def _terms(text: str) -> Iterator[str]:
    """Between commas that stand in no brackets."""
    begin, inside = 0, False
    for place, sign in enumerate(text):
        if sign in "()":
            inside = sign == "("
        elif sign == "," and not inside:
            yield text[begin:place]
            begin = place + 1
    yield text[begin:]


def _test(term: str) -> Test | None:
    """None for what is no term."""
    if term.endswith(")"):
        head, _, listed = term[:-1].partition("(")
        return _of_list(head.split(), {each.strip() for each in listed.split(",")})
    if term.startswith("!"):
        absent = term[1:].strip()
        return (lambda labels: absent not in labels) if _is(_KEY, absent) else None
    key, sign, value = (part.strip() for part in term.partition("="))
    if not sign:
        return (lambda labels: key in labels) if _is(_KEY, key) else None
    differs, value = key.endswith("!"), value.removeprefix("=").strip()
    return _of_list([key.removesuffix("!").strip(), "notin" if differs else "in"], {value})


def _of_list(words: list[str], values: set[str]) -> Test | None:
    match words:
        case [key, "in" | "notin" as word] if _is(_KEY, key) and all(_is(_VALUE, each) for each in values):
            return lambda labels: (labels.get(key) in values) == (word == "in")
    return None


def _is(pattern: re.Pattern[str], text: str) -> bool:
    return len(text) <= _LONGEST and pattern.fullmatch(text) is not None
