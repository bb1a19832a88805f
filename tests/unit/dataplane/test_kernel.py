# SPDX-License-Identifier: Apache-2.0
"""What the plane over the kernel refuses before it asks the kernel."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xdpdirector.dataplane.explain_types import Question
from xdpdirector.dataplane.kernel import RealPlane
from xdpdirector.errors import DataplaneError, InvalidRequestError
from xdpdirector.loader import attachment, compiler
from xdpdirector.paths import InstancePaths

QUESTION = Question(
    client=ip_address("192.0.2.100"), client_port=40000, vip=ip_address("192.0.2.10"), port=80
)


@pytest.mark.parametrize("name", ["lo\0", "none-such", "x" * 40, "\udc80"])
def test_explain_of_an_interface_that_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment, "attachments", lambda _paths: [])
    plane = object.__new__(RealPlane)
    plane._paths = InstancePaths("none")

    with pytest.raises(InvalidRequestError, match="there is no interface"):
        asyncio.run(plane.explain(QUESTION.model_copy(update={"interface": name})))


def test_explain_with_a_program_that_somebody_has_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attachment, "attachments", lambda _paths: [])
    monkeypatch.setattr(compiler, "ensure_explaining", lambda *_: tmp_path / "explain-0")
    plane = object.__new__(RealPlane)
    plane._paths, plane._explaining, plane._explainer = InstancePaths("none"), asyncio.Lock(), None
    loaded = SimpleNamespace(maps={"explanations": {"value": {"type": "u32", "size": 4}}}, pins=tmp_path)
    plane._tables = cast(Any, SimpleNamespace(loaded=loaded))
    plane._dataplane = cast(Any, SimpleNamespace(indices=None))

    with pytest.raises(DataplaneError, match="the kernel refused"):
        asyncio.run(plane.explain(QUESTION))
