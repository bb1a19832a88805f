# SPDX-License-Identifier: Apache-2.0
"""The files of examples/designs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from xdpdirector.config import yaml_document

DESIGNS = Path(__file__).parents[2] / "examples" / "designs"


def text(file: str) -> str:
    return (DESIGNS / file).read_text()


def document(file: str) -> dict[str, Any]:
    found = yaml_document.parse(text(file), file).data
    assert isinstance(found, dict)
    return found
