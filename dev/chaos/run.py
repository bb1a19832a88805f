# SPDX-License-Identifier: Apache-2.0
"""A chaos run, from building the lab to the report."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import copyfile

from dev.chaos import client_log
from dev.chaos.client_log import Ended, Second
from dev.chaos.clients import CONNECTING, PATIENCE
from dev.chaos.lab import World, standing, write_plan
from dev.chaos.lanes import Lanes
from dev.chaos.observer import Observer
from dev.chaos.report import Report, report
from dev.chaos.schedule import schedule
from dev.chaos.setting import Options
from xdpdirector.errors import DirectorError
from xdpdirector.lab.processes import Process, stop
from xdpdirector.lab.waiting import wait_until

ROLE = "chaos-clients"
OVERTIME = 300.0  # seconds for what is late on a slow machine
Say = Callable[[str], None]


def run_chaos(options: Options, say: Say) -> Report:
    """`say` gets a line for each disturbance and flood."""
    size = options.size
    say(
        f"seed {options.seed}, {options.minutes:g} minutes: {size.running} connections, {size.rate:g} new a second"
    )
    say("building the lab and starting the director (it compiles its program)")
    actions = schedule(options)
    with standing(options) as world, Observer(world.director.client) as observer:
        lanes = Lanes(world, actions, say)
        with _clients(world) as output:
            lanes.start()
            try:
                end = lanes.begun + options.seconds
                if not lanes.join(max(0.0, end - time.monotonic()) + OVERTIME):
                    raise DirectorError(f"what was begun does not end within {OVERTIME:g} s of the run's end")
                time.sleep(max(0.0, end - time.monotonic()))
            finally:
                lanes.stop()
                say(f"{time.monotonic() - lanes.begun:6.1f} s  the clients say their last words")
        if options.log:
            copyfile(world.director.log, options.log)
        records = [client_log.parse(line) for line in output.read_text().splitlines()]
        return report(options, lanes.begun, time.monotonic(), lanes.done(), _whole(records), observer.heard())


def _whole(records: list[Ended | Second]) -> list[Ended | Second]:
    """DirectorError when the clients say nothing: then nothing is known."""
    if not any(isinstance(each, Second) for each in records):
        raise DirectorError("the clients wrote nothing")
    return records


@contextmanager
def _clients(world: World) -> Iterator[Path]:
    """At work inside the block, with every connection open when it begins; the file that they write."""
    host = world.lab.client
    directory = host.directory(ROLE)
    output, plan = directory / "connections.jsonl", directory / "plan.json"
    write_plan(world, plan)
    with output.open("w") as file:
        child = host.popen(*(sys.executable, "-m", "dev.chaos.clients", str(plan)), role=ROLE, stdout=file)
    try:
        wait_until(lambda: output.stat().st_size > 0 or child.poll() is not None, "the clients begin", 30.0)
        yield output
    finally:
        _end(child)
    if child.returncode:
        words = host.log(ROLE).read_text(errors="replace")[-2000:]
        raise DirectorError(f"the clients ended with status {child.returncode}: {words}")


def _end(child: subprocess.Popen[str]) -> None:
    stop(Process.of(child.pid), grace=PATIENCE + CONNECTING + 10.0)
    child.wait(timeout=5)
