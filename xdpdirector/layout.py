# SPDX-License-Identifier: Apache-2.0
"""layout.json: what the loader loaded, for everyone who opens the maps afterwards.

Knows names, digests and shapes; opens no map and imports neither bcc nor ctypes.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths

VERSION = 1


@dataclass(frozen=True)
class Loaded:
    """What `prepare` made.

    `pins` holds the maps and `program` is the pinned program, whose id `program_id` lasts until the reboot.
    `maps`: by name, type, key_size, value_size (of one CPU), max_entries, flags, and the shapes `key` and
    `value`: a scalar {"size", "type"} or a struct {"name", "size", "fields": [{"name", "offset", "size",
    "type"}]}. A type is u8 to u64, s8 to s64, bytes or such a struct; the field of an array has "count" (its
    size is the whole array's), a bit field "bits": [shift, width] in the number at its offset.
    `enums`: the constants of the C enums.
    """

    program_digest: str
    layout_digest: str
    program: Path
    program_id: int
    pins: Path
    sizes: Sizes
    maps: dict[str, Any]
    enums: dict[str, dict[str, int]]
    bcc: str

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        text = {"program": str(self.program), "pins": str(self.pins), "sizes": self.sizes.model_dump()}
        return {"version": VERSION} | {name: text.get(name, value) for name, value in vars(self).items()}

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Loaded:
        """ValueError, TypeError or KeyError when it is not such a document."""
        values = dict(document)
        if values.pop("version") != VERSION:
            raise ValueError("of another version")
        values |= {"program": Path(values["program"]), "pins": Path(values["pins"])}
        return cls(**values | {"sizes": Sizes.model_validate(values["sizes"])})


def read(paths: InstancePaths) -> Loaded | None:
    """What layout.json says; None when it is missing or not usable."""
    try:
        seen = paths.layout.stat()
        return _read(paths.layout, seen.st_ino, seen.st_mtime_ns, seen.st_size)
    except (OSError, ValueError, TypeError, KeyError, ValidationError):
        return None


@lru_cache(maxsize=4)
def _read(path: Path, *_as_it_is: int) -> Loaded:
    """Asked every second, and always another file when it says something else (`write`)."""
    return Loaded.from_document(json.loads(path.read_text()))


def write(paths: InstancePaths, loaded: Loaded) -> None:
    """In one step: readers see the old document or the new one. The directory may be another user's, who is not
    followed anywhere."""
    paths.run.mkdir(parents=True, exist_ok=True)
    unfinished = paths.layout.with_suffix(".new")
    unfinished.unlink(missing_ok=True)
    with unfinished.open("x") as file:
        file.write(json.dumps(loaded.document(), indent=1))
    unfinished.replace(paths.layout)


def keep(paths: InstancePaths, loaded: Loaded) -> None:
    """Set aside what describes maps that others are to follow, so that these can be read."""
    place = _aside(paths, loaded)
    if not place.exists():
        place.write_text(json.dumps(loaded.document(), indent=1))


def set_aside(paths: InstancePaths) -> list[Loaded]:
    """What was set aside and has its maps still; the latest first."""
    found = []
    for place in sorted(paths.run.glob("layout-*.json"), key=lambda path: path.stat().st_mtime, reverse=True):
        try:
            loaded = Loaded.from_document(json.loads(place.read_text()))
        except (OSError, ValueError, TypeError, KeyError, ValidationError):
            continue
        if loaded.pins.is_dir():
            found.append(loaded)
    return found


def forget(paths: InstancePaths, directory: Path) -> None:
    """The maps in that directory are gone."""
    for loaded in set_aside(paths):
        if loaded.pins == directory:
            _aside(paths, loaded).unlink(missing_ok=True)


def _aside(paths: InstancePaths, loaded: Loaded) -> Path:
    return paths.run / f"layout-{loaded.pins.name}.json"
