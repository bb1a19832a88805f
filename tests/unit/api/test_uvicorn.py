# SPDX-License-Identifier: Apache-2.0
"""What api/server/ takes from uvicorn beside its documented interface, in the release that it was tested with.

Server and Connection extend classes that a minor release of uvicorn may change. So pyproject.toml allows one minor
release. To take a newer one: run all tests with it, change the pin, renew the lock (docs/packages.md).
"""

from __future__ import annotations

import inspect
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import Server as UvicornServer

from xdpdirector.api.server.connection import Connection
from xdpdirector.api.server.server import Server

PROJECT = Path(__file__).parents[3] / "pyproject.toml"


def test_one_minor_release_is_allowed_and_it_is_the_tested_one() -> None:
    texts = tomllib.loads(PROJECT.read_text())["project"]["dependencies"]
    (allowed,) = (each.specifier for text in texts if (each := Requirement(text)).name == "uvicorn")
    major, minor = map(int, version("uvicorn").split(".")[:2])

    assert allowed.contains(version("uvicorn"))
    assert not allowed.contains(f"{major}.{minor + 1}.0")
    assert not allowed.contains(f"{major}.{minor - 1}.99")


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        (UvicornServer.startup, ["self", "sockets"]),
        (UvicornServer.main_loop, ["self"]),
        (UvicornServer.on_tick, ["self", "counter"]),
        (UvicornServer.shutdown, ["self", "sockets"]),
        (UvicornServer.capture_signals, ["self"]),
        (H11Protocol.__init__, ["self", "config", "server_state", "app_state", "_loop"]),
        (H11Protocol.connection_made, ["self", "transport"]),
        (H11Protocol._unset_keepalive_if_required, ["self"]),
        (H11Protocol.connection_lost, ["self", "exc"]),
        (H11Protocol.data_received, ["self", "data"]),
        (H11Protocol.send_400_response, ["self", "msg"]),
    ],
    ids=lambda part: getattr(part, "__qualname__", ""),
)
def test_methods_that_are_extended_have_these_parameters(method: object, parameters: list[str]) -> None:
    assert callable(method)
    assert list(inspect.signature(method).parameters) == parameters


@pytest.mark.parametrize(("ours", "theirs"), [(Server, UvicornServer), (Connection, H11Protocol)])
def test_nothing_else_is_replaced(ours: type, theirs: type) -> None:
    shared = {name for name in vars(ours) if not name.startswith("__") and hasattr(theirs, name)}

    assert (
        shared
        == {
            Server: {"startup", "main_loop", "on_tick", "shutdown", "capture_signals"},
            Connection: {"connection_made", "connection_lost", "data_received", "send_400_response"},
        }[ours]
    )
