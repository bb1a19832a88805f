# SPDX-License-Identifier: Apache-2.0
"""The labs of the course in training/: what each lesson builds, and how its exercise is checked.

A module for each lesson. `lesson.py` says what a lesson is, `observe.py` looks at a lab. The texts: training/.
"""

from __future__ import annotations

from importlib import import_module

from xdpdirector.lab.lessons.lesson import Lesson

MODULES = (
    "direct_routing",
    "first_director",
    "schedulers",
    "failures",
    "upgrade",
    "pair_of_directors",
    "tracing",
    "faults",
)


def lesson(number: int) -> Lesson:
    """By its number, from 1 on."""
    found: Lesson = import_module(f"{__name__}.{MODULES[number - 1]}").LESSON
    return found
