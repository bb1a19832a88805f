# SPDX-License-Identifier: Apache-2.0
"""Metrics as Prometheus text (0.0.4) and as OpenMetrics text (1.0). Knows the formats; no metric.

prometheus_client writes both, too, but takes ten times as long for a thousand backends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
"""Content types."""
Kind = Literal["gauge", "counter", "info", "stateset", "summary", "histogram"]
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", '"': '\\"'})
_SUFFIXES = {"counter": "_total", "info": "_info"}
_OLD_KINDS = {"info": "gauge", "stateset": "gauge"}


def labels(**values: str) -> str:
    """As they stand between the braces."""
    return ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in values.items())


def takes_openmetrics(accept: str) -> bool:
    """Whether that, of `accept` (RFC 9110, section 12.5.1) in its order, comes before plain text of the same age. A
    version above 1 is not what we write."""
    for each in accept.split(","):
        kind, *parameters = (part.strip() for part in each.split(";"))
        version = dict(part.split("=", 1) for part in parameters if "=" in part).get("version", "")
        if kind == "application/openmetrics-text" and version in ("", "1.0.0", "1.0"):
            return True
        if kind == "text/plain" and version.startswith("1."):
            return False
    return False


class Family:
    """One metric and its samples. `name`: without the suffix that its kind has."""

    __slots__ = ("_lines", "_name", "kind", "name", "text")

    def __init__(self, name: str, kind: Kind, text: str) -> None:
        self.name, self.kind, self.text = name, kind, text
        self._name = name + _SUFFIXES.get(kind, "")
        self._lines: list[str] = []

    def add(self, value: float, labelled: str = "", suffix: str = "") -> Family:
        """A sample; `labelled`: see `labels`. `suffix` is of a summary's or histogram's parts."""
        braces = f"{{{labelled}}}" if labelled else ""
        self._lines.append(f"{self._name}{suffix}{braces} {_number(value)}\n")
        return self

    def add_all(self, samples: Iterable[tuple[str, float | None]]) -> Family:
        """Many: labels and value of each; none where the value is None."""
        begin = f"{self._name}{{"
        self._lines += [
            f"{begin}{labelled}}} {_number(value)}\n" for labelled, value in samples if value is not None
        ]
        return self

    def add_states(self, state: str, states: Iterable[str], labelled: str) -> None:
        """Of a state set: 1 for the state, 0 for all others."""
        begin = f'{self._name}{{{labelled},{self.name}="'
        self._lines += [f'{begin}{each}"}} {1 if each == state else 0}\n' for each in states]

    def written(self, openmetrics: bool) -> str:
        name, kind = (
            (self.name, self.kind) if openmetrics else (self._name, _OLD_KINDS.get(self.kind, self.kind))
        )
        return f"# HELP {name} {self.text}\n# TYPE {name} {kind}\n" + "".join(self._lines)


def _number(value: float) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if isinstance(value, int) else repr(float(value))
