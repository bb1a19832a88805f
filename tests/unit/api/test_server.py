# SPDX-License-Identifier: Apache-2.0
"""How the server ends."""

from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest

from tests.support.api_server import DEADLINE, ApiServer
from tests.support.fake_director import FakeDirector
from xdpdirector.api.server import server as module
from xdpdirector.client import UnixConnection


def test_it_ends_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at its next look at the clock, also while a client keeps its connection."""
    monkeypatch.setattr(module, "TICK", 3600.0)
    server = ApiServer(FakeDirector(), tmp_path / "api.sock").__enter__()
    with contextlib.closing(UnixConnection(server.path, DEADLINE)) as connection:
        connection.request("GET", "/healthz")
        connection.getresponse().read()
        ending = threading.Thread(target=server.__exit__, args=(None, None, None), daemon=True)
        ending.start()
        ending.join(DEADLINE)

        assert not ending.is_alive()
