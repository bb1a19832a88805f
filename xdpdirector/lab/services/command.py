# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector lab services`: build, play, take down. Prints no result."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from xdpdirector.lab.lab import Lab
from xdpdirector.lab.services.environment import Stage
from xdpdirector.lab.services.fixtures import Stock
from xdpdirector.lab.services.registry import chosen
from xdpdirector.lab.services.result import Result
from xdpdirector.lab.services.run import Matrix


@dataclass(frozen=True)
class Options:
    """`services`: their names; none means all. `numbered`: the lab's name gets a number when that is taken."""

    services: Sequence[str] = ()
    scheduler: str = "wlc"
    name: str = "services"
    numbered: bool = False


def run_services(options: Options, say: Callable[[str], None]) -> Result:
    """`say` gets a line of progress now and then."""
    makers = chosen(options.services)
    began = time.monotonic()

    def tell(text: str) -> None:
        say(f"{time.monotonic() - began:5.1f} s  {text}")

    with Lab(options.name, numbered=options.numbered) as lab:
        stock = Stock(lab.record.directory / "services")
        kinds = [make(stock) for make in makers]
        tell(
            f"starting {', '.join(kind.name for kind in kinds)} on {len(lab.backends)} backends, and a director"
        )
        stage = Stage(lab, kinds, options.scheduler)
        matrix = Matrix(stage, options.scheduler, tell)
        matrix.play()
        stage.director.stop()
    matrix.result.seconds = round(time.monotonic() - began, 1)
    return matrix.result
