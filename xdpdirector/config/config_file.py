# SPDX-License-Identifier: Apache-2.0
"""The configuration file: read, understood, or refused with line, column and remedy.

Brings the text, the model and the sentences together. Must not know what is stored or what runs.
"""

from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256
from io import StringIO
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from ruamel.yaml import YAML

from xdpdirector.config import yaml_document
from xdpdirector.config.messages import Problem, problems
from xdpdirector.config.yaml_document import Document, Place
from xdpdirector.errors import ConfigurationError
from xdpdirector.model import Configuration, Sizes

LARGEST = 4 << 20
MOST_SHOWN = 20


def load(path: Path) -> Configuration:
    """The configuration in the file; ConfigurationError for everything that is wrong with it, all at once."""
    return understood(yaml_document.parse(_text(path), str(path)))


def sizes(path: Path) -> Sizes:
    """What the file says of `sizes`; it may still lack `interfaces`, as the one does that the package brings.
    ConfigurationError as of `load`."""
    found = yaml_document.parse(_text(path), str(path))
    if isinstance(found.data, dict):
        found = replace(found, data={"interfaces": ["none"], **found.data})
    return understood(found).sizes


def understood(found: Document) -> Configuration:
    """What a document says, as a configuration; ConfigurationError as of `load`."""
    if found.data is None:
        raise ConfigurationError(
            "the file is empty: it needs 'interfaces: [NAME]' at least", source=found.source, line=1, column=1
        )
    try:
        return Configuration.model_validate(found.data)
    except ValidationError as error:
        raise _all_wrong(found, error) from None


class Fault(NamedTuple):
    """`line` and `column` count from 1; `pointer`: where it is in the document (RFC 6901)."""

    line: int
    column: int
    pointer: str
    sentence: str


def checked(text: str) -> tuple[Any, list[Fault]]:
    """What a YAML text says, as plain values, or all that is wrong with it as a configuration, in its order."""
    try:
        found = yaml_document.parse(text, "")
        if found.data is not None:
            Configuration.model_validate(found.data)
            return found.data, []
    except ConfigurationError as error:
        place = f"{error.line}:{error.column}: "
        sentence = error.detail.removeprefix(place)
        return None, [Fault(error.line or 1, error.column or 1, error.pointer or "", sentence)]
    except ValidationError as error:
        return None, _faults(found, error)
    return None, [Fault(1, 1, "", "there is nothing in it: it needs 'interfaces: [NAME]' at least")]


def schema() -> dict[str, Any]:
    """JSON Schema of the configuration file, for editors."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **Configuration.model_json_schema(),
        "title": "XDP Director configuration",
    }


def as_yaml(configuration: Configuration) -> str:
    """As a configuration file says it."""
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = StringIO()
    yaml.dump(configuration.model_dump(mode="json", exclude_none=True), text)
    return text.getvalue()


def digest(configuration: Configuration) -> str:
    """Changes when what the file says about services changes; comments, order and layout do not count."""
    said = configuration.model_dump(mode="json", include={"services"}, exclude_unset=True)
    return sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def _text(path: Path) -> str:
    content = _content(path)
    if len(content) > LARGEST:
        raise _refused(path, f"the file is larger than {LARGEST >> 20} MiB: is it a configuration at all?")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        raise ConfigurationError(
            f"the octet 0x{content[error.start]:02x} is not UTF-8: save the file as UTF-8",
            source=str(path),
            line=before.count(b"\n") + 1,
            column=len(before) - before.rfind(b"\n"),
        ) from error


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST + 1)
    except FileNotFoundError as error:
        raise _refused(path, "there is no such file: write one, or name another with --config") from error
    except PermissionError as error:
        raise _refused(path, "the file may not be read by this user: change its mode or owner") from error
    except IsADirectoryError as error:
        raise _refused(path, "this is a directory: name the file in it") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise _refused(path, f"the file cannot be read: {reason}") from error


def _refused(source: Path | str, detail: str) -> ConfigurationError:
    return ConfigurationError(detail, source=str(source))


def _all_wrong(found: Document, error: ValidationError) -> ConfigurationError:
    """One error for all problems, in the file's order, a line each; the first one's place is the error's."""
    first, *others = faults = _faults(found, error)
    lines = [first.sentence]
    lines += [
        f"{found.source}:{each.line}:{each.column}: {each.sentence}" for each in others[: MOST_SHOWN - 1]
    ]
    if len(faults) > MOST_SHOWN:
        lines.append(f"... and {len(faults) - MOST_SHOWN} more")
    return ConfigurationError(
        "\n".join(lines), source=found.source, line=first.line, column=first.column, pointer=first.pointer
    )


def _faults(found: Document, error: ValidationError) -> list[Fault]:
    """In the file's order."""
    told = [
        Fault(*_place(found, problem), problem.pointer, problem.sentence)
        for problem in problems(error, found.data, Configuration)
    ]
    return sorted(told, key=lambda fault: fault[:2])


def _place(found: Document, problem: Problem) -> Place:
    if problem.of_whole:
        return found.place_within(problem.path, problem.sentence)
    return found.place(problem.path)
