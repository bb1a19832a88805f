# SPDX-License-Identifier: Apache-2.0
"""Expressions that an operator gives: what is found, what is refused, and how long a hostile page holds anybody."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from typing import Any

import pytest
from pydantic import ValidationError

from tests.support.check_servers import PATIENT, at, closing, serving
from xdpdirector.health.checks import (
    CheckFailed,
    CheckImpossible,
    direct,
    errno_messages,
    registry,
)
from xdpdirector.model import patterns
from xdpdirector.model.checks import HttpCheck, UdpCheck
from xdpdirector.model.patterns import Search

PAGE = 65536
HOSTILE = {
    "nested": (r"^(\w+\s?)+ready$", b"word " * (PAGE // 5) + b"!"),
    "spaces": (r"\s*OK\s*$", b" " * PAGE + b"!"),
    "anything": (r".*ready", b"x" * PAGE),
    "alternatives": (r"(x|xx|x+)*y", b"x" * PAGE),
}
# In a process of its own: a search that is not linear would hold this one for ages.
TRIAL = """
import asyncio, sys
from xdpdirector.model.patterns import Search

print(asyncio.run(Search(sys.argv[1], sys.stdin.buffer.read()).found()))
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_page_is_searched_in_linear_time(name: str) -> None:
    text, page = HOSTILE[name]

    command = [sys.executable, "-c", TRIAL, text]
    done = subprocess.run(command, input=page, capture_output=True, timeout=30, check=False)

    assert done.stdout == b"False\n", done.stderr


@pytest.mark.parametrize(
    ("text", "data", "found"),
    [
        ("^o.$", b"ok", True),
        ("^o.$", b"ok\n", True),
        ("^o.$", b"ok\n\n", False),
        (r"^o.\z", b"ok\n", False),
        ("(?i)READY", b"we are ready.", True),
        ("caf\u00e9", "au caf\u00e9".encode(), True),
        ("^..$", b"\xff\x00", True),
        ("ready", b"", False),
        ("b{2}", b"abba", True),
    ],
)
def test_found(text: str, data: bytes, found: bool) -> None:
    assert asyncio.run(Search(text, data).found()) is found


def test_a_long_search_leaves_the_loop_its_turns() -> None:
    turns = 0

    async def main() -> bool:
        nonlocal turns
        search = asyncio.create_task(Search(r"(?:a?b?){100}z", b"ab" * (PAGE // 2)).found())
        while not search.done():
            turns += 1
            await asyncio.sleep(0)
        return search.result()

    assert asyncio.run(main()) is False
    assert turns > 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[", "is not a regular expression of RE2: missing ]"),
        ("(?=ready)", "lookaround and the like are not supported: they cannot be matched in linear time"),
        (r"(a)\1", "back-references are not supported"),
        (r"ready\Z", r"write \z for the end of the text"),
        ("x{,3}", "write {0,3} instead of {,3}"),
        ("a++", "possessive and doubled repetitions are not supported"),
        ("a{1001}", "a repetition counts to 1000 at most"),
        ("a{900}b{900}c{900}", "too large a regular expression"),
        ("\ud800", "lone surrogate"),
    ],
)
def test_what_cannot_be_searched_for_is_refused_with_a_sentence(text: str, words: str) -> None:
    for model, field in ((HttpCheck, "body"), (UdpCheck, "expect")):
        document: dict[str, Any] = {"type": "http" if model is HttpCheck else "udp", field: text}
        with pytest.raises(ValidationError) as refused:
            model.model_validate(document)
        if text.isprintable():
            assert words in str(refused.value)
    assert words in patterns.refusal(text)
    with pytest.raises(ValueError, match=re.escape(words)):
        Search(text, b"")


@pytest.mark.parametrize("text", [r"x\{,3}", r"\{,3\}", "{", "a{2,}", "[{,]?"])
def test_what_only_looks_odd_is_taken(text: str) -> None:
    assert patterns.refusal(text) == ""


def test_a_search_that_takes_too_long_is_the_answers_fault_unless_it_never_began() -> None:
    search = Search("ready", b"not yet")

    assert isinstance(errno_messages.late_search(search, at(80), 1.0), CheckImpossible)
    assert asyncio.run(search.found()) is False
    assert isinstance(errno_messages.late_search(search, at(80), 1.0), CheckFailed)


def test_an_http_check_of_a_hostile_page_fails_in_time() -> None:
    text, page = HOSTILE["nested"]
    spec = HttpCheck(type="http", body=text, timeout=PATIENT, interval=PATIENT)

    async def main() -> None:
        async with serving(closing(b"HTTP/1.0 200 OK\r\n\r\n" + page[: PAGE - 1000])) as port:
            await registry.probe(spec, at(port), direct)

    with pytest.raises(CheckFailed, match="does not contain"):
        asyncio.run(asyncio.wait_for(main(), PATIENT))
