# SPDX-License-Identifier: Apache-2.0
"""The list of what is on the medium, as SPDX 2.3 (ISO/IEC 5962): Debian's packages and the Python packages that the
director brings along, each with its version. Pure."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterable, Mapping
from hashlib import sha256
from typing import Any, NamedTuple

FORMAT = "${Package}\\t${Version}\\t${Architecture}\\t${source:Package}\\t${source:Version}\\n"
"""What dpkg-query is asked for."""
_NOT_IN_AN_ID = re.compile(r"[^A-Za-z0-9.-]")


class Part(NamedTuple):
    """`locator`: its package URL (purl)."""

    name: str
    version: str
    locator: str


def debian(listing: str) -> list[Part]:
    """From dpkg-query's output in `FORMAT`."""
    parts = []
    for line in sorted(listing.splitlines()):
        name, version, architecture, *_ = line.split("\t")
        locator = f"pkg:deb/debian/{name}@{_quoted(version)}?arch={architecture}"
        parts.append(Part(name, version, locator))
    return parts


def python(pins: Mapping[str, str]) -> list[Part]:
    """From versions by project."""
    return [Part(name, version, f"pkg:pypi/{name}@{version}") for name, version in sorted(pins.items())]


def document(name: str, epoch: int, parts: Iterable[Part]) -> str:
    """The same parts make the same octets."""
    packages = [_package(part) for part in parts]
    digest = sha256(json.dumps(packages, sort_keys=True).encode()).hexdigest()
    described: dict[str, Any] = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": name,
        "documentNamespace": f"https://xdpdirector.example/spdx/{name}-{digest[:32]}",
        "creationInfo": {
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
            "creators": ["Tool: xdpdirector-lab-iso"],
        },
        "packages": packages,
        "relationships": [
            {
                "spdxElementId": "SPDXRef-DOCUMENT",
                "relationshipType": "DESCRIBES",
                "relatedSpdxElement": package["SPDXID"],
            }
            for package in packages
        ],
    }
    return json.dumps(described, indent=1) + "\n"


def _package(part: Part) -> dict[str, Any]:
    kind = part.locator.partition("/")[0].removeprefix("pkg:")
    return {
        "SPDXID": "SPDXRef-" + _NOT_IN_AN_ID.sub("-", f"{kind}-{part.name}"),
        "name": part.name,
        "versionInfo": part.version,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": "NOASSERTION",
        "licenseDeclared": "NOASSERTION",
        "copyrightText": "NOASSERTION",
        "externalRefs": [
            {
                "referenceCategory": "PACKAGE-MANAGER",
                "referenceType": "purl",
                "referenceLocator": part.locator,
            }
        ],
    }


def _quoted(version: str) -> str:
    return version.replace("+", "%2B").replace(":", "%3A").replace("~", "%7E")
