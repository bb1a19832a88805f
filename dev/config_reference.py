# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.config_reference`: every key of the configuration file, out of the model.

As docs/configuration.md and as the manual page director.yaml(5); a test compares both with what stands there.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

from xdpdirector.model import Configuration
from xdpdirector.model.checks import CheckBase, CheckSpec
from xdpdirector.model.durations import DURATION
from xdpdirector.model.fields import Frozen

CHECKOUT = Path(__file__).parents[1]
MARKDOWN = CHECKOUT / "docs" / "configuration.md"
MANUAL = CHECKOUT / "debian" / "man" / "director.yaml.5"

_ENTRY = {"services": "NAME", "backends": "NAME", "deny": "[]"}  # how one of several is written in a path
_FORMATS = {
    "listener": "listener, like `192.0.2.10:80/tcp`",
    "endpoint": "`ADDRESS:PORT`",
    "path": "absolute path",
}


@dataclass(frozen=True)
class Key:
    """A row: its name, what may stand there, the value without it, what it means."""

    name: str
    kind: str
    default: str
    text: str


@dataclass(frozen=True)
class Section:
    """The keys under `path`, which is empty for the file's own; `text` introduces them."""

    path: str
    text: str
    keys: tuple[Key, ...]


def sections() -> list[Section]:
    """All of them, in the order of the file; checks of each type after what all checks have."""
    return list(_sections(Configuration, ""))


def _sections(model: type[Frozen], path: str) -> Iterator[Section]:
    schema = model.model_json_schema()
    yield Section(path, _intro(model), tuple(_keys(schema)))
    for name, field in model.model_fields.items():
        below = f"{path}.{name}".lstrip(".")
        below += {"[]": "[]", "NAME": ".NAME"}.get(_ENTRY.get(name, ""), "")
        for inner in _models(field.annotation):
            if issubclass(inner, CheckBase):
                yield from _checks(below)
                break
            yield from _sections(inner, below)


def _checks(path: str) -> Iterator[Section]:
    types: list[type[CheckBase]] = list(get_args(get_args(CheckSpec)[0]))
    common = set(CheckBase.model_fields)
    kinds = ", ".join(f"`{_type(each)}`" for each in types)
    type_key = Key("type", f"one of {kinds}", "required", "What is asked; each type has keys of its own.")
    yield Section(path, "Every check has these.", (type_key, *_keys(CheckBase.model_json_schema())))
    for each in types:
        schema = each.model_json_schema()
        usual = CheckBase.model_json_schema()["properties"]
        own = {
            name: found
            for name, found in schema["properties"].items()
            if name != "type" and (name not in common or found != usual[name])
        }
        rows = tuple(_keys({**schema, "properties": own}))
        yield Section(f"{path}, type: {_type(each)}", _intro(each), rows)


def _type(check: type[CheckBase]) -> str:
    (name,) = get_args(check.model_fields["type"].annotation)
    return str(name)


def _models(annotation: Any) -> Iterator[type[Frozen]]:
    if isinstance(annotation, type) and issubclass(annotation, Frozen):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)


def _intro(model: type[Frozen]) -> str:
    """The first paragraph of its docstring."""
    return " ".join((model.__doc__ or "").split("\n\n")[0].split())


def _keys(schema: dict[str, Any]) -> Iterator[Key]:
    required, parts = set(schema.get("required", ())), schema.get("$defs", {})
    for name, field in schema["properties"].items():
        kind = _kind(_resolved(field, parts), parts)
        if unit := field.get("x-unit"):
            kind = f"{kind}; {unit}"
        default = "required" if name in required else _default(field, kind)
        yield Key(name, kind, default, field.get("description", ""))


def _resolved(field: dict[str, Any], parts: dict[str, Any]) -> dict[str, Any]:
    """What a reference refers to, and the one thing that is not null where null may stand, too."""
    for many in ("anyOf", "allOf"):
        real = [each for each in field.get(many, ()) if each.get("type") != "null"]
        if len(real) == 1:
            field = real[0]
    if "$ref" in field:
        return _resolved(parts[field["$ref"].rpartition("/")[2]], parts)
    return field


def _kind(field: dict[str, Any], parts: dict[str, Any]) -> str:
    if words := field.get("enum", [field["const"]] if "const" in field else []):
        return ", ".join(f"`{word}`" for word in words)
    pattern = field.get("pattern", "")
    if words := [_kind(each, parts) for each in field.get("oneOf", ()) if "enum" in each]:
        return f"{', '.join(words)}, or keys below"
    if "oneOf" in field or "discriminator" in field:
        return "keys below"
    if pattern == f"^{DURATION}$":
        return "duration" + (f", {_bounds(field, _seconds)}" if "maximum" in field else "")
    if "/s" in str(field.get("examples")):
        return "rate"
    if {"format": "ipv4"} in field.get("anyOf", ()):
        return "IPv4 or IPv6 address"
    return _plain(field, parts)


def _plain(field: dict[str, Any], parts: dict[str, Any]) -> str:
    form, kind = field.get("format"), field.get("type")
    if form in _FORMATS:
        return _FORMATS[form]
    if "198.51.100.7" in field.get("examples", ()):
        return "prefix, like `203.0.113.0/24`, or address"
    match kind:
        case "integer":
            return f"number, {_bounds(field, lambda number: f'{number:,}')}"
        case "boolean":
            return "`true`, `false`"
        case "array":
            inner = _resolved(field["items"], parts)
            what = _kind(inner, parts)
            most = f", {field['maxItems']:,} at most" if "maxItems" in field else ""
            return f"list of: {what}{most}"
        case "object":
            if _is_of_texts(field):
                return "names, with a text each"
            if lists := _lists_in(field, parts):
                return f"names, with a {lists} each"
            return (
                "names, with keys below"
                if "patternProperties" in field or "propertyNames" in field
                else "keys below"
            )
        case _:
            most = f", {field['maxLength']:,} characters at most" if "maxLength" in field else ""
            return f"text{most}"


def _is_of_texts(field: dict[str, Any]) -> bool:
    """Labels."""
    return any(each.get("type") == "string" for each in field.get("patternProperties", {}).values())


def _lists_in(field: dict[str, Any], parts: dict[str, Any]) -> str:
    """What the names of firewall marks lead to; empty where names lead to no lists."""
    inside = [_resolved(each, parts) for each in field.get("patternProperties", {}).values()]
    return next((_kind(each, parts) for each in inside if each.get("type") == "array"), "")


def _bounds(field: dict[str, Any], write: Any) -> str:
    return f"{write(field['minimum'])} to {write(field['maximum'])}"


def _seconds(seconds: float) -> str:
    """Short, as an operator writes it."""
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds / length:g}{unit}"
    return f"{seconds * 1000:g}ms"


def _default(field: dict[str, Any], kind: str) -> str:
    value = field.get("default")
    if isinstance(value, float) and kind.startswith("duration"):
        value = _seconds(value)
    if value is None or value in ([], {}, ""):
        return "none"
    if isinstance(value, dict):
        return "see below"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, list):
        return f"`[{', '.join(map(str, value))}]`"
    return f"`{value}`"


def markdown() -> str:
    """docs/configuration.md."""
    lines = [_HEAD]
    for section in sections():
        lines += [f"## {section.path or 'The file'}", "", section.text, ""]
        if section.keys:
            lines += ["| key | type | default | |", "|---|---|---|---|"]
            lines += [
                f"| `{key.name}` | {_cell(key.kind)} | {_cell(key.default)} | {_cell(key.text)} |"
                for key in section.keys
            ]
            lines.append("")
    return "\n".join(lines).rstrip("\n") + "\n"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def manual() -> str:
    """director.yaml(5)."""
    lines = [_MANUAL_HEAD.rstrip("\n")]
    for section in sections():
        lines += [f".SS {_roff(section.path) or 'The file'}", _roff(section.text)]
        for key in section.keys:
            lines += [
                ".TP",
                f'.BR {_roff(key.name)} " ({_roff(key.kind)}; {_roff(_said(key.default))})"',
                _roff(key.text),
            ]
    lines.append(_MANUAL_END.rstrip("\n"))
    return "\n".join(lines) + "\n"


def _said(default: str) -> str:
    return default if default in ("required", "see below") else f"default {default}"


def _roff(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("`", "").replace('"', "\\(dq")
    return re.sub(r"^([.'])", r"\\&\1", text)


_HEAD = """\
# Configuration

<!-- Made by `./lab reference` out of the model (xdpdirector/model/configuration.py): change it there. -->

Every key of `/etc/xdpdirector/director.yaml`, and of `/etc/xdpdirector/INSTANCE.yaml` for a further instance
([packages.md](packages.md#instances)); also `man 5 director.yaml`. The file is YAML 1.2. A key that is not here is
an error, with its line. `xdpdirector config check FILE` says, without a daemon, whether a file is sound.
`xdpdirector config plan FILE` says what a file would change, and `systemctl reload
xdpdirector` takes it in; `interfaces`, `mode`, `user`, `api` and `sizes` need `systemctl restart xdpdirector-load
xdpdirector`. Neither loses a packet.

A *duration* is written `300ms`, `2s`, `5m`, `1h` or `7d`; a number alone is seconds. A *rate* is written `1000/s`,
`10/m` or `5/h`; a number alone is for a second.
"""

_MANUAL_HEAD = """\
.\\" SPDX-License-Identifier: Apache-2.0
.\\" Made by `./lab reference` out of the model: change it there.
.TH DIRECTOR.YAML 5 "" "XDP Director" "File formats"
.SH NAME
director.yaml \\- configuration of XDP Director
.SH DESCRIPTION
.I /etc/xdpdirector/director.yaml
is the configuration of the default instance,
.I /etc/xdpdirector/INSTANCE.yaml
that of another one
.RB ( "xdpdirector \\-i INSTANCE" ).
It is YAML 1.2. A key that is not listed here is an error.
.PP
.B xdpdirector config check FILE
says, without a daemon, whether a file is sound.
.B xdpdirector config plan FILE
says what a file would change,
.B systemctl reload xdpdirector
takes it in;
.I interfaces, mode, user, api
and
.I sizes
need
.BR "systemctl restart xdpdirector\\-load xdpdirector" .
Neither loses a packet.
.PP
A duration is written 300ms, 2s, 5m, 1h or 7d; a number alone is seconds. A rate is written 1000/s, 10/m or 5/h; a
number alone is for a second.
.SH KEYS
"""

_MANUAL_END = """\
.SH EXAMPLE
.nf
interfaces: [eth0]
services:
  web:
    listeners: ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp"]
    scheduler: wlc
    check: {type: http, path: /healthz, interval: 2s, timeout: 1s, rise: 2, fall: 3}
    backends:
      web1: {address: 192.0.2.21}
      web2: {address: 192.0.2.22, weight: 2}
.fi
.SH SEE ALSO
.BR xdpdirector (8)
"""


def main() -> None:
    MARKDOWN.write_text(markdown())
    MANUAL.write_text(manual())


if __name__ == "__main__":
    main()
