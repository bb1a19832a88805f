# SPDX-License-Identifier: Apache-2.0
"""The dashboard of a lab's director, for a browser on this machine, which no address leads into the lab."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from xdpdirector.errors import DirectorError
from xdpdirector.lab.director import LabDirector
from xdpdirector.relay import Relay


@contextmanager
def shown(director: LabDirector, say: Callable[[str], None]) -> Iterator[None]:
    """It can be reached as long as the block lasts; `say` gets its address, with a link that logs in once."""
    try:
        director.client.text("/ui/", "text/html")  # not there in a checkout where it was not built
        path = director.client.post("/v1/sessions/links")["path"]
    except DirectorError:
        yield
        return
    with Relay(director.paths.socket) as relay:
        name = f" of {director.host.name}" if director.host.name != "director" else ""
        say(f"the dashboard{name}, for a browser on this machine (logs in once, soon): {relay.address}{path}")
        yield
