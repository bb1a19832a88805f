# SPDX-License-Identifier: Apache-2.0
"""`python -m dev.bench.sync_side INSTANCE LISTEN PEER`: connection sync over the maps of a loaded instance, in a
process of its own as in a daemon; a JSON line again and again, of how far it is and what it has used.

A line on standard input, or its end, ends it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from contextlib import ExitStack, closing

from dev.bench.director_target import dataplane
from xdpdirector import __version__
from xdpdirector.errors import DirectorError
from xdpdirector.loader import layout
from xdpdirector.model.sync import SyncSpec
from xdpdirector.paths import InstancePaths
from xdpdirector.sync.connection_sync import ConnectionSync
from xdpdirector.sync.hello import Hello
from xdpdirector.sync.interface import ConnectionTables

LINES_APART = 0.02  # seconds


async def _run(instance: str, listen: str, peer: str) -> None:
    paths = InstancePaths(instance)
    loaded = layout.read(paths)
    if loaded is None:
        raise DirectorError(f"no program of the instance '{instance}' is loaded")
    with ExitStack() as stack:
        plane = stack.enter_context(dataplane(paths, loaded))
        tables = ConnectionTables(plane.tables, plane.clock, loaded.program.with_name("merge"), plane.rings)
        stack.enter_context(closing(tables))
        spec = SyncSpec.model_validate({"listen": listen, "peers": [peer]})
        hello = Hello(listen, "bench", instance, __version__, listen, tables.states())
        sync = ConnectionSync(spec, hello, tables)
        await sync.start()
        ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline)
        while not ended.done():
            [status] = sync.peers()
            line = {
                "at": time.monotonic(),
                "used": time.process_time(),
                "incoming": status.incoming.state,
                "outgoing": status.outgoing.state,
                "inserted": status.inserted,
                "merged": status.inserted + status.updated + status.kept,
                "sent": status.outgoing.records,
                "lost": status.unknown + status.full,
            }
            print(json.dumps(line), flush=True)
            await asyncio.sleep(LINES_APART)
        await sync.close()


if __name__ == "__main__":
    asyncio.run(_run(*sys.argv[1:]))
