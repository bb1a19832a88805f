# SPDX-License-Identifier: Apache-2.0
"""Arguments split into options as popt(3) does, which ipvsadm is made with: clusters, optional arguments, errors.

Knows no option's meaning.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

MISSING = "missing argument"
UNKNOWN = "unknown option"
UNWANTED = "option does not take an argument"


@dataclass(frozen=True)
class Option:
    """`takes`: it has an argument; `optional`: unless what comes next begins with a dash."""

    name: str
    takes: bool = False
    optional: bool = False


class Found(NamedTuple):
    """An option, and its argument if it has one. `word`: the last of the command line that was read for it."""

    name: str
    argument: str | None
    word: str


class PoptError(Exception):
    """`option`: the argument of the command line at fault, whole."""

    def __init__(self, option: str, why: str) -> None:
        super().__init__(f"{option}: {why}")


class Arguments:
    """Iterates over the options in their order; what is none of them is in `left` then."""

    def __init__(self, words: Sequence[str], long: Mapping[str, Option], short: Mapping[str, Option]) -> None:
        self._words, self._long, self._short = list(words), long, short
        self._next = 0
        self.left: list[str] = []

    def __iter__(self) -> Iterator[Found]:
        only_words = False
        while self._next < len(self._words):
            word = self._take()
            if only_words or not word.startswith("-") or word == "-":
                self.left.append(word)
            elif word == "--":
                only_words = True
            elif word.startswith("--"):
                yield self._of_long(word)
            else:
                yield from self._of_cluster(word)

    def _take(self) -> str:
        self._next += 1
        return self._words[self._next - 1]

    def _of_long(self, word: str) -> Found:
        name, sign, value = word[2:].partition("=")
        option = self._long.get(name)
        if option is None:
            raise PoptError(word, UNKNOWN)
        if not option.takes:
            if sign:
                raise PoptError(word, UNWANTED)
            return Found(option.name, None, word)
        argument = value if sign else self._following(option)
        return Found(option.name, argument, self._words[self._next - 1])

    def _of_cluster(self, word: str) -> Iterator[Found]:
        rest = word[1:]
        while rest:
            option, rest = self._short.get(rest[0]), rest[1:]
            if option is None:
                raise PoptError(word, UNKNOWN)
            rest = rest.removeprefix("=")
            if not option.takes:
                yield Found(option.name, None, word)
            elif rest:
                yield Found(option.name, rest, word)
                return
            else:
                argument = self._following(option)
                yield Found(option.name, argument, self._words[self._next - 1])

    def _following(self, option: Option) -> str | None:
        following = self._words[self._next] if self._next < len(self._words) else None
        if option.optional and (following is None or following.startswith("-")):
            return None
        if following is None:
            raise PoptError(self._words[self._next - 1], MISSING)
        return self._take()
