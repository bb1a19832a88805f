# SPDX-License-Identifier: Apache-2.0
"""Virtual services of IPVS as services of the director's documents, and back. Pure.

A document is a service as the configuration file or the API has it; backends are a mapping by name, or a list. What
IPVS tells apart and this director does not (a firewall mark's port, a flag without effect) is kept in labels.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple

from xdpdirector.lvs.virtual import ANY4, ANY6, Destination, Virtual, VirtualKey
from xdpdirector.model.durations import parse_duration
from xdpdirector.model.listener import ANY_PORT, WITH_PORTS, Address, Listener

Document = Mapping[str, Any]
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sed", "nq", "sh", "mh", "fo", "ovf", "dh", "lblc", "lblcr", "twos")
RINGS = ("sh", "mh")
FLAGS, PORT, ADDRESS = "ipvsadm/flags", "ipvsadm/port", "ipvsadm/address"
"""Labels: of a service, of a backend, of a backend."""
FTP, FTP_DATA = 21, 20
UNPRIVILEGED = "1024-65535"


class Marks:
    """What firewall marks stand for: the configuration's `lvs.fwmarks`."""

    def __init__(self, said: Mapping[str, Collection[str]]) -> None:
        self._listeners = {
            int(mark): frozenset(Listener.parse(each) for each in texts) for mark, texts in said.items()
        }

    def listeners(self, key: VirtualKey) -> tuple[Listener, ...]:
        """Those of the family that the key says; none when the mark stands for nothing."""
        version = key.address.version
        return tuple(
            sorted(each for each in self._listeners.get(key.fwmark, ()) if each.address.version == version)
        )

    def key(self, listeners: Collection[Listener]) -> VirtualKey | None:
        """The mark that stands for just these; None when there is none."""
        wanted = frozenset(listeners)
        for mark in self._listeners:
            for any_address in (ANY4, ANY6):
                key = VirtualKey(mark, "", any_address, 0)
                if wanted and wanted == frozenset(self.listeners(key)):
                    return key
        return None


class Keys(NamedTuple):
    """A service's virtual services. `whole`: the only one is all of it. `without`: listeners that IPVS has no form
    for."""

    keys: tuple[VirtualKey, ...]
    whole: bool
    without: tuple[Listener, ...]


def keys_of(document: Document, marks: Marks) -> Keys:
    listeners = [Listener.parse(each) for each in document["listeners"]]
    marked = marks.key(listeners)
    if marked:
        return Keys((marked,), True, ())
    control = _ftp(listeners)
    if control:
        return Keys((control,), True, ())
    keys = [_key(each) for each in listeners]
    without = tuple(each for each, key in zip(listeners, keys, strict=True) if key is None)
    return Keys(tuple(key for key in keys if key), len(listeners) == 1 and not without, without)


def _key(listener: Listener) -> VirtualKey | None:
    if listener.ports == ANY_PORT and listener.protocol in WITH_PORTS:
        return VirtualKey(0, listener.protocol, listener.address, 0)
    if listener.is_exact:
        return VirtualKey(0, listener.protocol, listener.address, listener.ports.first)
    return None


def _ftp(listeners: list[Listener]) -> VirtualKey | None:
    address = listeners[0].address
    if set(listeners) == set(_ftp_listeners(address)):
        return VirtualKey(0, "tcp", address, FTP)
    return None


def _ftp_listeners(address: Address) -> list[Listener]:
    """Control, active data, passive data: what IPVS sends to a persistent service at port 21."""
    host = f"[{address}]" if address.version == 6 else str(address)
    return [Listener.parse(f"{host}:{ports}/tcp") for ports in (FTP, FTP_DATA, UNPRIVILEGED)]


def listeners_of(key: VirtualKey, marks: Marks, *, persistent: bool) -> list[str]:
    """What a virtual service listens on here; empty for a mark that stands for nothing."""
    if key.fwmark:
        return [str(each) for each in marks.listeners(key)]
    if persistent and key.protocol == "tcp" and key.port == FTP:
        return [str(each) for each in _ftp_listeners(key.address)]
    host = f"[{key.address}]" if key.is_ipv6 else str(key.address)
    return [f"{host}:{key.port or '*'}/{key.protocol}"]


def service_name(key: VirtualKey) -> str:
    """What a virtual service is called here: `tcp-192.0.2.10-80`, `fwm-1`, `fwm6-1`."""
    if key.fwmark:
        return f"fwm{'6' if key.is_ipv6 else ''}-{key.fwmark}"
    return f"{key.protocol}-{_as_name(key.address)}-{key.port or 'any'}"


def backend_name(address: Address) -> str:
    return _as_name(address)


def _as_name(address: Address) -> str:
    name = str(address).replace(":", "-")
    return f"{'0' if name.startswith('-') else ''}{name}{'0' if name.endswith('-') else ''}"


def service_fields(wanted: Virtual, marks: Marks) -> dict[str, Any]:
    """All that IPVS says of a virtual service, as fields of a service; null is a default."""
    is_ring = wanted.scheduler in RINGS
    port_flag, kept = f"{wanted.scheduler}-port", [*wanted.flags]
    if is_ring and port_flag in kept:
        kept.remove(port_flag)
    return {
        "listeners": listeners_of(wanted.key, marks, persistent=bool(wanted.timeout)),
        "scheduler": wanted.scheduler,
        "hash": ("flow" if port_flag in wanted.flags else "address") if is_ring else None,
        "persistence": _persistence(wanted),
        "one_packet": wanted.one_packet,
        "labels": {FLAGS: ".".join(kept) or None},
    }


def _persistence(wanted: Virtual) -> dict[str, Any] | None:
    """IPVS keeps persistent clients on a server of weight 0, unless expire_quiescent_template is set."""
    if not wanted.timeout:
        return None
    own = {"prefix6": wanted.mask} if wanted.key.is_ipv6 else {"prefix": wanted.mask}
    return {"timeout": f"{wanted.timeout}s", **own, "on_drain": "keep"}


def backend_fields(wanted: Destination, key: VirtualKey, at: Address, service: Document) -> dict[str, Any]:
    """`at`: the address that the director sends to, where the destination's means the director itself. `service`:
    the backend's document."""
    labels = {
        PORT: str(wanted.port) if key.fwmark and wanted.port else None,
        ADDRESS: _as_label(wanted.address) if at != wanted.address else None,
    }
    return {
        "address": str(at),
        "weight": wanted.weight,
        "max_connections": wanted.upper or None,
        "resume_connections": wanted.lower or None,
        "forward": None if wanted.forward == forward_of(service, {}) else wanted.forward,
        "labels": labels,
    }


def _as_label(address: Address) -> str:
    return address.exploded.replace(":", ".")


def _of_label(text: str) -> Address:
    return ip_address(text.replace(".", ":") if text.count(".") == 7 else text)


def without_nulls(document: Any) -> Any:
    """A document to create, of one that would change."""
    if not isinstance(document, dict):
        return document
    return {key: without_nulls(value) for key, value in document.items() if value is not None}


def virtual_of(name: str, document: Document, key: VirtualKey) -> Virtual:
    """One of a service's virtual services, with what is wanted; nothing is counted."""
    persistence = document.get("persistence") or {}
    scheduler = document.get("scheduler", "wlc")
    mask = persistence.get("prefix6", 128) if key.is_ipv6 else persistence.get("prefix", 32)
    return Virtual(
        key,
        scheduler,
        round(seconds(persistence.get("timeout", 300))) if persistence else 0,
        mask,
        bool(document.get("one_packet")),
        _flags(scheduler, document),
        tuple(destination_of(name, backend, each, key, document) for backend, each in backends_of(document)),
        name,
    )


def _flags(scheduler: str, document: Document) -> tuple[str, ...]:
    """In the order in which ipvsadm writes them."""
    kept = (document.get("labels") or {}).get(FLAGS, "").split(".")
    if scheduler in RINGS:
        hashed = document.get("hash") or ("flow" if scheduler == "mh" else "address")
        known = [f"{scheduler}-fallback"] if f"{scheduler}-fallback" in kept else []
        return (*known, *([f"{scheduler}-port"] if hashed == "flow" else []))
    return tuple(flag for flag in ("flag-1", "flag-2", "flag-3") if flag in kept)


GUE_PORT = 6080  # as in xdpdirector.model.tunnel, which takes long to import


def forward_of(service: Document, backend: Document) -> str:
    return str(backend.get("forward") or service.get("forward") or "direct")


def tunnel_port_of(service: Document) -> int:
    """The UDP port of GUE."""
    return int((service.get("tunnel") or {}).get("port") or GUE_PORT)


def destination_of(
    service: str, backend: str, document: Document, key: VirtualKey, whole: Document
) -> Destination:
    """`whole`: the service's document."""
    forward, labels = forward_of(whole, document), document.get("labels") or {}
    address = _of_label(labels[ADDRESS]) if ADDRESS in labels else ip_address(document["address"])
    port = int(labels.get(PORT, 0)) if key.fwmark else key.port
    return Destination(
        address,
        port,
        document.get("weight", 1),
        document.get("max_connections") or 0,
        document.get("resume_connections") or 0,
        key=(service, backend),
        forward=forward,
        tunnel_port=tunnel_port_of(whole) if forward == "gue" else 0,
    )


def backends_of(document: Document) -> Iterator[tuple[str, Document]]:
    """By name, in either form."""
    backends = document.get("backends") or {}
    if isinstance(backends, Mapping):
        yield from backends.items()
    else:
        yield from ((each["name"], each) for each in backends)


def seconds(value: Any) -> float:
    return float(parse_duration(value))
