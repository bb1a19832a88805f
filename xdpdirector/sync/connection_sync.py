# SPDX-License-Identifier: Apache-2.0
"""Connection sync as a whole: scans ten times a second, hands what it finds to each peer's sender, and says how far
this director and its peers are.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import Callable, Collection

from xdpdirector.errors import ConfigurationError
from xdpdirector.model.access import Endpoint
from xdpdirector.model.sync import SyncSpec, SyncTls
from xdpdirector.sync.hello import Hello
from xdpdirector.sync.interface import Connections
from xdpdirector.sync.receiver import Receiver
from xdpdirector.sync.sender import Sender
from xdpdirector.sync.status import FleetView, PeerState, PeerStatus
from xdpdirector.system.background_tasks import BackgroundTasks
from xdpdirector.system.files import fingerprint, require_regular

SCAN_APART = 0.1  # seconds between the begins of two scans, if that leaves time for all else
SHARE = 4  # scans take no more than this part of a processor
SILENT = 10.0
"""Seconds without a packet here, after which a connection that a peer holds is none of this director: more than it
takes peers to tell that they have seen it."""
LEISURE, IN_BULK = 2, 5  # from one scan's begin to the next one's, in times of what it took by the clock


class ConnectionSync:
    """Of one director."""

    def __init__(
        self,
        spec: SyncSpec,
        hello: Hello,
        connections: Connections,
        tasks: BackgroundTasks | None = None,
        vips: Callable[[], Collection[str]] = tuple,
    ) -> None:
        """ConfigurationError for certificates that cannot be used. `vips`: those that stand on this director."""
        self._vips = vips
        self._spec, self._hello, self._connections = spec, hello, connections
        self._tasks = tasks or BackgroundTasks()
        self._server_tls = _server_context(spec.tls) if spec.tls else None
        self._receiver = Receiver(
            spec.listen, spec.peers, lambda: hello, connections, self._server_tls, self._see
        )
        client_tls = (lambda: _client_context(spec.tls)) if spec.tls else (lambda: None)
        self._senders = [Sender(peer, lambda: hello, connections, client_tls) for peer in spec.peers]
        self._running: list[asyncio.Task[None]] = []
        self._begun = time.monotonic()
        self._certificate = fingerprint(spec.tls.certificate) if spec.tls else None

    def _see(self, peer: Endpoint) -> None:
        """It waits for this director's connections."""
        for sender in self._senders:
            if sender.peer == peer:
                sender.see()

    async def start(self) -> None:
        """ConfigurationError when the address cannot be listened on."""
        try:
            await self._receiver.start()
        except OSError as error:
            raise ConfigurationError(f"sync.listen {self._spec.listen}: {error.strerror or error}") from error
        self._begun = time.monotonic()
        self._running = [
            self._tasks.start("the connection sync", self._scan),
            *(self._tasks.start(f"the connection sync to {each.peer}", each.run) for each in self._senders),
        ]

    async def close(self) -> None:
        for task in self._running:
            task.cancel()
        await asyncio.gather(*self._running, return_exceptions=True)
        await self._receiver.close()

    def view(self) -> FleetView:
        """Peers in configured order."""
        return FleetView(
            name=self._hello.name,
            version=self._hello.version,
            vips=tuple(sorted(self._vips())),
            fleet=self._hello.fleet,
            waiting=self.waiting(),
            peers=tuple(self.peers()),
        )

    def peers(self) -> list[PeerStatus]:
        """In configured order."""
        return [self._peer(each) for each in self._senders]

    def waiting(self) -> str:
        """Why this director should not be ready yet: peers' connections are still to come. Empty when it may be."""
        if time.monotonic() - self._begun >= self._spec.patience:
            return ""
        missing = [str(peer) for peer, each in self._receiver.incoming.items() if not each.had_bulk]
        return f"the connections of {', '.join(missing)} have not arrived yet" if missing else ""

    def warnings(self) -> list[str]:
        """A sentence for each peer that does not have this director's connections, or the other way round."""
        if self.waiting():
            return []
        found = []
        for status in self.peers():
            who = f"{status.name} ({status.address})" if status.name else status.address
            if status.outgoing.state in (PeerState.CONNECTING, PeerState.REFUSED):
                found.append(f"connections are not sent to the director {who}: {status.outgoing.why}")
            if status.incoming.state in (PeerState.CONNECTING, PeerState.REFUSED):
                found.append(f"no connections come from the director {who}: {status.incoming.why}")
        if self._spec.insecure:
            found.append("connections are sent to peers in the clear (sync.insecure)")
        return found

    def _peer(self, sender: Sender) -> PeerStatus:
        incoming = self._receiver.incoming[sender.peer]
        return PeerStatus(
            address=str(sender.peer),
            name=sender.peer_name or incoming.name,
            version=sender.peer_version or incoming.version,
            clock=None if sender.clock is None else round(sender.clock, 3),
            vips=incoming.vips,
            outgoing=sender.status(),
            incoming=incoming.status(),
            **vars(incoming.merged),
        )

    async def flows_here(self) -> int | None:
        """See `SyncSource`. A peer that is synced holds what was silent for a while."""
        is_held = any(each.outgoing.state is PeerState.SYNCED for each in self.peers())
        return await self._connections.flows_here(SILENT if is_held else None)

    async def _scan(self) -> None:
        while True:
            begun = time.monotonic()
            batches, renamed = await self._connections.scan()
            if renamed:
                self._receiver.renamed()
            vips = tuple(sorted(self._vips()))
            for sender in self._senders:
                sender.offer(batches, renamed=renamed, vips=vips)
            self._renew_certificate()
            await asyncio.sleep(self._pause(time.monotonic() - begun))

    def _pause(self, took: float) -> float:
        """Seconds until the next scan. Merging waits for scans, and a peer that gets bulk waits for that."""
        ways = [way for status in self.peers() for way in (status.incoming, status.outgoing)]
        in_bulk = any(way.state is PeerState.BULK for way in ways)
        apart = max(SCAN_APART, SHARE * self._connections.cost, (IN_BULK if in_bulk else LEISURE) * took)
        return max(0.0, apart - took)

    def _renew_certificate(self) -> None:
        tls = self._spec.tls
        if tls is None or self._server_tls is None:
            return
        now = fingerprint(tls.certificate)
        if now != self._certificate:
            self._certificate = now
            with contextlib.suppress(ConfigurationError):
                _load(self._server_tls, tls)


def _server_context(tls: SyncTls) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.verify_mode = ssl.CERT_REQUIRED
    return _load(made, tls)


def _client_context(tls: SyncTls) -> ssl.SSLContext:
    """A director is known by its authority, not by a host name: peers are addresses."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.check_hostname = False
    return _load(made, tls)


def _load(into: ssl.SSLContext, tls: SyncTls) -> ssl.SSLContext:
    into.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        for path in (tls.certificate, tls.key, tls.ca):
            require_regular(path)
        into.load_cert_chain(tls.certificate, tls.key, password=lambda: b"")
        into.load_verify_locations(tls.ca)
    except (OSError, ssl.SSLError, ValueError) as error:
        why = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
        raise ConfigurationError(
            f"sync.tls: certificate {tls.certificate}, key {tls.key}, ca {tls.ca}: {why}"
        ) from error
    return into
