# SPDX-License-Identifier: Apache-2.0
"""Text from outside forges no line of a log, commands no terminal and shows as nothing else."""

import io
import json
import logging

import pytest
from ruamel.yaml import YAML

from xdpdirector.cli import render
from xdpdirector.control.events import Events
from xdpdirector.daemon import log_format
from xdpdirector.health.checks import CheckFailed, CheckImpossible
from xdpdirector.system import sanitize

COMMANDS = ["\x1b]0;owned\x07", "\x9b2J", "\x7f", "\u202egnp", "\u2066x", "\u061c", "\x00", "\x85"]
BREAKS = ["\n", "\r", "\r\n", "\u2028", "\u2029", "\x0b", "\x0c", "\x1c", "\x85"]
FORGED = "ERROR xdpdirector: all is lost"
RAW = {chr(code) for code in (*range(32), *range(127, 160), 0x061C, 0x200E, 0x200F, 0x2028, 0x2029,
                              *range(0x202A, 0x202F), *range(0x2066, 0x206A))}  # fmt: skip


@pytest.fixture
def log() -> io.StringIO:
    """What a logger of its own writes as the daemon does."""
    return io.StringIO()


@pytest.fixture
def logger(log: io.StringIO) -> logging.Logger:
    handler = logging.StreamHandler(log)
    handler.setFormatter(log_format.OneLineFormatter(log_format.FORM))
    logger = logging.Logger("xdpdirector.test")
    logger.addHandler(handler)
    return logger


@pytest.mark.parametrize("text", [*COMMANDS, *BREAKS], ids=ascii)
def test_a_line_is_one_line_and_can_be_shown(text: str) -> None:
    shown = sanitize.line(f"it said {text}{FORGED}")

    assert shown.splitlines() == [shown]
    assert not set(shown) & RAW
    assert shown.endswith(FORGED)


@pytest.mark.parametrize("text", COMMANDS, ids=ascii)
def test_lines_keep_their_breaks_and_nothing_else(text: str) -> None:
    assert set(sanitize.lines(f"one\n{text}two")) & RAW == {"\n"}


@pytest.mark.parametrize("text", [*COMMANDS, *BREAKS], ids=ascii)
def test_json_means_the_same(text: str) -> None:
    shown = sanitize.json(json.dumps({"reason": text}, ensure_ascii=False))

    assert not set(shown) & RAW
    assert json.loads(shown) == {"reason": text}


@pytest.mark.parametrize("text", ["weight 3", "größer → 3,5 \N{NO-BREAK SPACE}%", "日本語"])
def test_other_text_stays_as_it_is(text: str) -> None:
    assert (sanitize.line(text), sanitize.lines(text), sanitize.json(text)) == (text, text, text)


@pytest.mark.parametrize("text", BREAKS, ids=ascii)
def test_no_line_of_the_log_is_forged(logger: logging.Logger, log: io.StringIO, text: str) -> None:
    logger.info("drained: %s", f"reason{text}{FORGED}")

    (line,) = log.getvalue().splitlines()
    assert line.startswith("INFO xdpdirector.test: drained: reason")


def test_no_line_of_a_traceback_is_forged(logger: logging.Logger, log: io.StringIO) -> None:
    try:
        raise ValueError(f"it said\n{FORGED}\x1b[2J")
    except ValueError:
        logger.exception("a bug")

    first, *others = log.getvalue().splitlines()
    assert first == "ERROR xdpdirector.test: a bug"
    assert all(line.startswith(log_format.INDENT) for line in others)
    assert any(FORGED in line for line in others)
    assert "\x1b" not in log.getvalue()


@pytest.mark.parametrize("kind", [CheckFailed, CheckImpossible])
def test_what_a_backend_says_is_harmless_from_the_beginning(kind: type[Exception]) -> None:
    """Its sentence goes to the log, to events, to metrics and to whoever asks."""
    assert str(kind(f"it said FATAL\n{FORGED}\x1b[2J")) == f"it said FATAL\\n{FORGED}\\x1b[2J"


def test_events_are_sentences_of_one_line() -> None:
    events = Events()

    events.publish("backend.drained", "web/web1", f"drained: x\n{FORGED}", reason="x\n")

    (event,) = events.since(events.last - 1)[1]
    assert event.text == f"drained: x\\n{FORGED}"
    assert event.data == {"reason": "x\n"}


@pytest.mark.parametrize("text", [*COMMANDS, *BREAKS], ids=ascii)
def test_a_line_of_the_command_line_is_one_line(text: str) -> None:
    """Of events and traces, whatever the daemon is."""
    shown = render.paint(f"drained: x{text}{FORGED}", "")

    assert shown.splitlines() == [shown]
    assert not set(shown) & RAW


@pytest.mark.parametrize("text", ["\u202egnp", "\u2066x"], ids=ascii)
def test_yaml_is_shown_as_it_is_or_with_the_same_meaning(text: str) -> None:
    plain, hostile = "name: größer\n", f'name: "{text}"\n'

    shown = render.yaml_shown(hostile)

    assert render.yaml_shown(plain) == plain
    assert not set(shown) & (RAW - {"\n"})
    assert YAML(typ="safe").load(shown) == YAML(typ="safe").load(hostile)


def test_what_is_no_yaml_is_shown_harmless() -> None:
    assert not {"\x1b", "\x9b"} & set(render.yaml_shown("name: \x1b[2J \x9b2J\n"))
