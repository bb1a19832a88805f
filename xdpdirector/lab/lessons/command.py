# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector lab lesson`: builds the lab of a lesson, says what is missing in it, gives a hint."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xdpdirector.errors import NotFoundError
from xdpdirector.lab import network
from xdpdirector.lab.lab import Lab, take_down
from xdpdirector.lab.lab_state import CHECKOUT
from xdpdirector.lab.lessons import lesson
from xdpdirector.lab.lessons.lesson import Check, Lesson
from xdpdirector.lab.shell import program
from xdpdirector.lab.status import status_text

Say = Callable[[str], None]


def build(number: int, say: Say) -> None:
    """Anew, whatever was there of this lesson."""
    wanted, name = lesson(number), f"lesson{number}"
    take_down(name)
    lab = Lab(name, backends=wanted.backends, directors=wanted.directors)
    lab.up(stay=True)
    try:
        for host in lab.backends:
            lab.nginx(host.name, big_megabytes=wanted.big_megabytes)
        wanted.build(lab)
    except BaseException:
        lab.down()
        raise
    text = CHECKOUT / "training" / wanted.file
    say(f"lesson {number}: {wanted.title}\n\n{status_text(lab.topology)}")
    elsewhere = f"training/{wanted.file}, in the source code and in /usr/share/doc/xdpdirector"
    say(f"text:    {text if text.exists() else elsewhere}")
    say(f"check:   {program()} lab lesson {number} check")


def check(number: int, say: Say) -> bool:
    """Whether the exercise is solved."""
    wanted, missing = lesson(number), 0
    for each, met in _judged(number, wanted):
        missing += not met
        say(f"{'ok     ' if met else 'missing'}  {each.sentence}")
    if missing:
        say(f"\n{missing} of {len(wanted.checks)} missing; for a hint: {program()} lab lesson {number} hint")
    else:
        say(f"\nlesson {number} is solved")
    return not missing


def hint(number: int, say: Say) -> bool:
    """About what is missing first."""
    for each, met in _judged(number, lesson(number)):
        if not met:
            say(f"missing  {each.sentence}\nhint     {each.hint}")
            return False
    say(f"lesson {number} is solved")
    return True


def _judged(number: int, wanted: Lesson) -> Iterator[tuple[Check, bool]]:
    network.check_machine()
    lab = _standing(number)
    return ((each, each.met(lab)) for each in wanted.checks)


def _standing(number: int) -> Lab:
    try:
        return Lab.standing(f"lesson{number}")
    except NotFoundError as error:
        raise NotFoundError(
            f"the lab of lesson {number} is not up: `xdpdirector lab lesson {number}` builds it"
        ) from error
