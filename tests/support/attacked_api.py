# SPDX-License-Identifier: Apache-2.0
"""The process that test_bad_clients.py attacks: the API over a fake director; prints its TCP port."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from tests.support.api_server import PLENTY, ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.server.server import ListeningSocket


def serve(path: str) -> None:
    """Until a signal ends it."""
    listening = socket.create_server(("127.0.0.1", 0))
    with ApiServer(FakeDirector(), Path(path), PLENTY, [ListeningSocket(listening)]):
        print(listening.getsockname()[1], flush=True)
        time.sleep(3600)
