# SPDX-License-Identifier: Apache-2.0
"""layout.json: describes what the loader loaded, for all who open the maps.

Root reads and writes maps according to it, so it is where only root can write. Knows names, digests and
shapes; opens no map and imports neither bcc nor ctypes.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from xdpdirector.model import Sizes
from xdpdirector.paths import InstancePaths
from xdpdirector.system import untrusted_directory

VERSION = 1
LARGEST = 4 << 20  # bytes

_FOR_ALL = 0o644
_UNUSABLE = (OSError, ValueError, TypeError, KeyError, ValidationError)


@dataclass(frozen=True)
class Loaded:
    """What `prepare` made.

    `pins` holds the maps and `program` is the pinned program, whose id `program_id` lasts until the reboot.
    `maps`: by name, type, key_size, value_size (of one CPU), max_entries, flags, and the shapes `key` and
    `value`: a scalar {"size", "type"} or a struct {"name", "size", "fields": [{"name", "offset", "size",
    "type"}]}. A type is u8 to u64, s8 to s64, bytes or such a struct; the field of an array has "count" (its
    size is the whole array's), a bit field "bits": [shift, width] in the number at its offset.
    `enums`: the constants of the C enums. `has_frags`: BPF_F_XDP_HAS_FRAGS.
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
    has_frags: bool = False

    def document(self) -> dict[str, Any]:
        """As JSON values."""
        text = {"program": str(self.program), "pins": str(self.pins), "sizes": self.sizes.model_dump()}
        values = {name: text.get(name, value) for name, value in vars(self).items()}
        if not self.has_frags:  # earlier releases refuse unknown names
            del values["has_frags"]
        return {"version": VERSION} | values

    @classmethod
    def from_document(cls, document: dict[str, Any]) -> Loaded:
        """ValueError, TypeError or KeyError if the document is not valid."""
        values = dict(document)
        if values.pop("version") != VERSION:
            raise ValueError("of another version")
        values |= {"program": Path(values["program"]), "pins": Path(values["pins"])}
        return cls(**values | {"sizes": Sizes.model_validate(values["sizes"])})


def read(paths: InstancePaths) -> Loaded | None:
    """Read layout.json; None if it is missing, invalid, or in a directory that others can write."""
    with suppress(*_UNUSABLE), untrusted_directory.own_directory(paths.layouts) as place:
        seen = os.stat(paths.layout.name, dir_fd=place, follow_symlinks=False)
        return _read(paths, seen.st_ino, seen.st_mtime_ns, seen.st_size)
    return None


@lru_cache(maxsize=4)
def _read(paths: InstancePaths, *_as_it_is: int) -> Loaded:
    """Cached: read every second, and `write` always makes a new file."""
    return _of(paths, paths.layout)


def read_former(paths: InstancePaths) -> Loaded | None:
    """Read the layout.json of an earlier release, which the daemon's user can write: compare it with the
    kernel's maps before use. Its program id is not trusted, and set to 0."""
    with suppress(*_UNUSABLE):
        return replace(_of(paths, paths.former_layout), program_id=0)
    return None


def _of(paths: InstancePaths, place: Path) -> Loaded:
    """ValueError if its pins are not this instance's."""
    loaded = Loaded.from_document(json.loads(untrusted_directory.read(place, LARGEST)))
    for pin in (loaded.pins, loaded.program):
        if pin.parent != paths.pins or pin.name == "..":
            raise ValueError("its pins are another instance's")
    return loaded


def write(paths: InstancePaths, loaded: Loaded) -> None:
    """Write atomically: readers see the old document or the new one. OSError."""
    with untrusted_directory.own_directory(paths.layouts, make=True) as place:
        untrusted_directory.write(place, paths.layout.name, _text(loaded), _FOR_ALL)


def keep(paths: InstancePaths, loaded: Loaded) -> None:
    """Set a layout aside whose maps will be migrated, so that they can still be read."""
    with untrusted_directory.own_directory(paths.layouts, make=True) as place:
        name = _aside(loaded)
        if name not in untrusted_directory.names(place):
            untrusted_directory.write(place, name, _text(loaded), _FOR_ALL)


def set_aside(paths: InstancePaths) -> list[Loaded]:
    """The layouts set aside whose maps still exist; the latest first."""
    found = []
    with suppress(OSError), untrusted_directory.own_directory(paths.layouts):
        for place in sorted(
            paths.layouts.glob("layout-*.json"), key=lambda path: path.stat().st_mtime, reverse=True
        ):
            with suppress(*_UNUSABLE):
                loaded = _of(paths, place)
                if loaded.pins.is_dir():
                    found.append(loaded)
    return found


def forget(paths: InstancePaths, directory: Path) -> None:
    """The maps in that directory were removed."""
    with suppress(FileNotFoundError), untrusted_directory.own_directory(paths.layouts) as place:
        for loaded in set_aside(paths):
            if loaded.pins == directory:
                untrusted_directory.remove(place, _aside(loaded))


def clear(paths: InstancePaths) -> None:
    """Remove all layouts. OSError."""
    with suppress(FileNotFoundError), untrusted_directory.own_directory(paths.layouts) as place:
        for name in untrusted_directory.names(place):
            untrusted_directory.remove(place, name)
        paths.layouts.rmdir()
    with suppress(FileNotFoundError), untrusted_directory.directory(paths.run) as place:
        untrusted_directory.remove(place, paths.former_layout.name)
    with suppress(OSError):  # not empty: other instances have files there
        paths.layouts.parent.rmdir()


def _text(loaded: Loaded) -> bytes:
    return json.dumps(loaded.document(), indent=1).encode()


def _aside(loaded: Loaded) -> str:
    return f"layout-{loaded.pins.name}.json"
