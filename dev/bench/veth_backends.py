# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.bench.veth_backends INSTANCE INTERFACE VARIANT...`: let the bench's services reach their
backends by an interface of this network namespace. Connections stay as they are."""

from __future__ import annotations

import socket
import sys

from dev.bench.director_target import dataplane, serve
from xdpdirector.errors import NotFoundError
from xdpdirector.loader import layout
from xdpdirector.paths import InstancePaths


def main(instance: str, interface: str, *variants: str) -> None:
    paths = InstancePaths(instance)
    loaded = layout.read(paths)
    if loaded is None:
        raise NotFoundError(f"nothing is loaded for instance '{instance}'")
    with dataplane(paths, loaded) as plane:
        serve(plane, variants, socket.if_nametoindex(interface))


if __name__ == "__main__":
    main(*sys.argv[1:])
