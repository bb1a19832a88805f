# SPDX-License-Identifier: Apache-2.0
"""Parts of a director of which the configuration says whether there are any, and of which kind: the stores that it
shares with a fleet, connection sync with peers and with LVS, the table of VIPs. What is not there is not imported.
Knows nothing of the daemon's life.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xdpdirector import __version__
from xdpdirector.api.auth.access import Access
from xdpdirector.control.events import Events
from xdpdirector.control.take_over import TakeOver
from xdpdirector.dataplane.kernel import RealPlane
from xdpdirector.errors import DirectorError
from xdpdirector.loader import attachment, layout
from xdpdirector.model import Address, Configuration
from xdpdirector.model.configuration import VipsOnDummy
from xdpdirector.net.dummy_vips import DummyVips
from xdpdirector.net.vips import Vips, VipTable
from xdpdirector.paths import InstancePaths
from xdpdirector.state.denylist import DenyListStore, SharedDenyListStore
from xdpdirector.state.maintenance import OrderStore
from xdpdirector.state.revisions import SharedHistory
from xdpdirector.storage.denylist_store import SqliteDenyList
from xdpdirector.storage.fallback import FallbackStore
from xdpdirector.storage.idempotency_store import Answers
from xdpdirector.storage.store import MIRROR_FORMAT
from xdpdirector.system.background_tasks import BackgroundTasks

if TYPE_CHECKING:
    from xdpdirector.sync.connection_sync import ConnectionSync
    from xdpdirector.sync.ipvs.exchange import Services
    from xdpdirector.sync.ipvs.ipvs_sync import IpvsSync

log = logging.getLogger("xdpdirector")


@dataclass(frozen=True)
class SharedStores:
    """What a director shares with others."""

    history: SharedHistory
    denials: SharedDenyListStore
    answers: Answers
    orders: OrderStore


def shared_stores(
    paths: InstancePaths,
    wanted: Configuration,
    access: Access,
    stack: contextlib.ExitStack,
    own_denials: DenyListStore,
    own_answers: Answers,
) -> SharedStores | None:
    """The store that the configuration names, when it is a fleet's. `own_denials`: what begins a fleet's."""
    if not wanted.store.is_shared:
        return None
    from xdpdirector.storage.etcd.fleet_answers import FleetAnswers
    from xdpdirector.storage.etcd.fleet_denylist import FleetDenyList
    from xdpdirector.storage.etcd.fleet_orders import FleetOrders
    from xdpdirector.storage.etcd.fleet_store import FleetStore  # what costs nothing where there is no fleet
    from xdpdirector.storage.etcd.fleet_tokens import FleetTokens
    from xdpdirector.storage.etcd.gateway import Gateway

    mirror = FallbackStore(paths.fleet_state, paths.run / "fleet-spare", form=MIRROR_FORMAT)
    stack.enter_context(mirror)
    gateway = Gateway(wanted.store)
    store = FleetStore(
        gateway,
        wanted.store.prefix,
        mirror,
        wanted.director_name,
        on_revision=access.audit.note_revision,
        is_exposed=wanted.store.insecure,
    )
    stack.callback(store.close)
    tokens = FleetTokens(store, access.tokens.store)
    access.tokens.keep_in(tokens)
    store.before_exchange = tokens.tell_uses
    return SharedStores(
        store,
        FleetDenyList(store, SqliteDenyList(lambda: mirror.database), own_denials.load),
        FleetAnswers(gateway, wanted.store.prefix, own_answers),
        FleetOrders(store),
    )


def connection_sync(
    paths: InstancePaths,
    wanted: Configuration,
    plane: RealPlane,
    tasks: BackgroundTasks,
    stack: contextlib.ExitStack,
    vips: Callable[[], Collection[str]],
) -> ConnectionSync | None:
    """With peers, if there are any; its view of the tables is closed with `stack`."""
    if wanted.sync is None:
        return None
    from xdpdirector.sync.connection_sync import ConnectionSync
    from xdpdirector.sync.hello import Hello
    from xdpdirector.sync.interface import ConnectionTables

    tables = stack.enter_context(contextlib.closing(ConnectionTables(*plane.connection_tables())))
    hello = Hello(
        name=wanted.sync.name or wanted.director_name,
        fleet=wanted.sync.fleet,
        instance=paths.name,
        version=__version__,
        listen=str(wanted.sync.listen),
        states=tables.states(),
        layout=layout.VERSION,
    )
    return ConnectionSync(wanted.sync, hello, tables, tasks, vips)


def take_over(paths: InstancePaths, wanted: Configuration) -> TakeOver:
    """Of a director whose maps are loaded, and perhaps not attached yet."""
    return TakeOver(
        follows_vips=wanted.sync is not None and wanted.vips != "manage",
        replaces=bool(layout.set_aside(paths)),
    )


def ipvs_sync(
    wanted: Configuration,
    plane: RealPlane,
    services: Callable[[], Services],
    tasks: BackgroundTasks,
    stack: contextlib.ExitStack,
) -> IpvsSync | None:
    """With LVS directors, if that is wanted; its view of the tables is closed with `stack`."""
    spec = wanted.lvs.sync
    if spec is None:
        return None
    from xdpdirector.sync.ipvs.exchange import Exchange
    from xdpdirector.sync.ipvs.ipvs_sync import IpvsSync

    exchange = Exchange(spec, wanted.lvs.fwmarks, services, plane.connection_tables())
    stack.callback(exchange.close)
    return IpvsSync(spec, exchange, tasks)


def vip_table(
    paths: InstancePaths,
    wanted: Configuration,
    events: Events,
    tasks: BackgroundTasks,
    is_ready: Callable[[], bool],
) -> VipTable:
    def carrying() -> set[str]:
        try:
            return {found.interface for found in attachment.attachments(paths)}
        except DirectorError as error:
            log.warning("the attached programs cannot be listed: %s", error.detail)
            return set()

    def tell(address: Address) -> None:
        come = vips.present(address)
        text = "the VIP is on this director" if come else "the VIP is on no interface of this director"
        events.publish("vip.present" if come else "vip.absent", str(address), text)

    vips: VipTable
    if isinstance(wanted.vips, VipsOnDummy):
        vips = DummyVips(
            wanted.vips.interface,
            is_ready=is_ready,
            on_change=tell,
            arp_ignore=wanted.lan.arp_ignore,
            memory=paths.arp,
            tasks=tasks,
        )
        return vips
    vips = Vips(
        wanted.interfaces,
        manage=wanted.vips == "manage",
        on_change=tell,
        carrying=carrying,
        arp_ignore=wanted.lan.arp_ignore,
        memory=paths.arp,
        tasks=tasks,
    )
    return vips
