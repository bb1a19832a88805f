# SPDX-License-Identifier: Apache-2.0
"""What a configuration of others became: services, where each part came from, and what was left and why. Pure.

Written as YAML with a comment for each line of its origin.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*|[0-9]+(ms|s|m|h)")
_WORDS = {"y", "n", "yes", "no", "on", "off", "true", "false", "null"}


class Origin(NamedTuple):
    """A line of what was read."""

    file: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class Left(NamedTuple):
    """What was not taken over: why not, and what to do instead."""

    origin: Origin
    why: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.origin}\n    {self.why}. {self.remedy}."


@dataclass
class Imported:
    """`services` as the configuration file has them. `origins`: by path into the configuration."""

    services: dict[str, dict[str, Any]] = field(default_factory=dict)
    fwmarks: dict[str, list[str]] = field(default_factory=dict)
    programs: list[str] = field(default_factory=list)
    external_vips: list[Origin] = field(default_factory=list)
    origins: dict[tuple[str, ...], list[Origin]] = field(default_factory=dict)
    left: list[Left] = field(default_factory=list)

    def leave(self, origin: Origin, why: str, remedy: str) -> None:
        self.left.append(Left(origin, why, remedy))

    def came_from(self, path: tuple[str, ...], *origins: Origin) -> None:
        known = self.origins.setdefault(path, [])
        known += [each for each in origins if each not in known]

    def document(self, interface: str) -> dict[str, Any]:
        """The configuration without its comments."""
        whole: dict[str, Any] = {"interfaces": [interface]}
        if self.external_vips:
            whole["vips"] = "external"
        if self.programs:
            whole["checks"] = {"allow_exec": self.programs}
        if self.fwmarks:
            whole["lvs"] = {"fwmarks": self.fwmarks}
        return {**whole, "services": self.services}

    def yaml(self, interface: str) -> str:
        return "".join(f"{line}\n" for line in self._lines(self.document(interface)))

    def _lines(self, whole: dict[str, Any]) -> Iterator[str]:
        yield f"interfaces: {_flow(whole['interfaces'])}  # not known from what was read: name the director's own"
        for key in ("vips", "checks", "lvs"):
            if key in whole:
                yield from self._comments((key,), "")
                yield f"{key}: {_flow(whole[key])}"
        yield "services:" if self.services else "services: {}"
        for name, service in self.services.items():
            yield from self._comments((name,), "  ")
            yield f"  {_flow(name)}:"
            for key, value in service.items():
                if key != "backends":
                    yield from self._comments((name, key), "    ")
                    yield f"    {key}: {_flow(value)}"
            yield "    backends:" if service["backends"] else "    backends: {}"
            for backend, spec in service["backends"].items():
                yield from self._comments((name, "backends", backend), "      ")
                yield f"      {_flow(backend)}: {_flow(spec)}"
        if self.left:
            yield "# Not taken over:"
            for left in self.left:
                yield from (f"#   {line}" for line in str(left).splitlines())

    def _comments(self, path: tuple[str, ...], indent: str) -> Iterator[str]:
        origins = self.external_vips if path == ("vips",) else self.origins.get(path, [])
        yield from (f"{indent}# {_one_line(str(each))}" for each in origins)


def _one_line(text: str) -> str:
    return "".join(sign if sign.isprintable() else "?" for sign in " ".join(text.split()))


def _flow(value: Any) -> str:
    """YAML in one line."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_flow(key)}: {_flow(each)}" for key, each in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_flow, value)) + "]"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        is_plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
        return value if is_plain else json.dumps(value, ensure_ascii=False)
    return str(value)


def duration(seconds: float) -> str:
    """As the configuration file writes it."""
    return f"{seconds:g}s" if seconds >= 1 else f"{round(seconds * 1000)}ms"
