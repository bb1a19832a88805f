# SPDX-License-Identifier: Apache-2.0
"""An upload, a download and idle connections that run, and other clients that come and go, while something happens.

For labs with nginx on all backends and a director for port 80 of both VIPs with backend1, backend2 and backend3.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from hashlib import sha256

from tests.support.lab_client import Conversation
from tests.support.transfers import Download, Upload, random_octets
from xdpdirector.lab import Lab
from xdpdirector.lab.clients import Clients
from xdpdirector.lab.configuration import TARGETS
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.model import Address

UPLOAD = 32  # megabytes
PAUSE = 0.05  # seconds between two chunks: the transfers outlast two compilations on a busy machine


@dataclass
class Running:
    """What must not break."""

    lab: Lab
    idle: list[Conversation]
    download: Download
    upload: Upload
    clients: Clients

    def assert_whole(self, *, to_the_end: bool = True) -> None:
        """`to_the_end`: they must still run now."""
        assert not to_the_end or (self.download.running and self.upload.running)
        sent, arrived = self.upload.finish(), self.download.finish()
        received = self.lab.nginx(self.upload.conversation.backend).received("sink-running")
        self.clients.stop()
        outcomes = {request.outcome for request in self.clients.requests()}

        assert arrived == sha256((self.lab.record.directory / "big").read_bytes()).hexdigest()
        assert received is not None
        assert sha256(received).hexdigest() == sent
        assert [one.who() for one in self.idle] == [one.backend for one in self.idle]
        assert outcomes == {"ok"}


@contextmanager
def all_running(lab: Lab) -> Iterator[Running]:
    with ExitStack() as stack:

        def converse(vip: Address) -> Conversation:
            return stack.enter_context(Conversation(lab.client, vip))

        idle = [converse(vip) for vip in (VIP4, VIP6) for _ in range(3)]
        while {one.backend for one in idle} != {"backend1", "backend2", "backend3"}:
            idle.append(converse(VIP4))
        download = stack.enter_context(Download(converse(VIP6), pause=PAUSE))
        upload = stack.enter_context(
            Upload(converse(VIP4), "sink-running", random_octets(UPLOAD), pause=PAUSE)
        )
        clients = stack.enter_context(Clients(lab.client, list(TARGETS), rate=100, kept=0))
        yield Running(lab, idle, download, upload, clients)


def serves(lab: Lab, *backends: str) -> None:
    """Until each has taken a new connection, while none of the new ones ends: the least busy one takes the next."""
    missing = set(backends)
    with ExitStack() as stack:

        def none_missing() -> bool:
            missing.discard(stack.enter_context(Conversation(lab.client, VIP4)).backend)
            return not missing

        wait_until(none_missing, f"{backends} take new connections")
