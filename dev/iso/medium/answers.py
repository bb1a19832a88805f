# SPDX-License-Identifier: Apache-2.0
"""The answer file `site.yaml`: the machines of a site, each with its role, addresses and disk.

A text becomes the model, or sentences that name the field with line and column. Must not know where the text came
from, nor what machine this is, but for `machine_for`.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from ipaddress import IPv4Interface, IPv6Interface
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import AfterValidator, Field, ValidationError, model_validator

from xdpdirector.config import yaml_document
from xdpdirector.config.messages import Problem, problems
from xdpdirector.config.yaml_document import Document
from xdpdirector.errors import ConfigurationError, NotFoundError
from xdpdirector.model import Configuration
from xdpdirector.model.fields import Frozen, HostAddress
from xdpdirector.model.listener import Address

SYNC_PORT = 8651
PRIORITIES = {"director": 250, "second-director": 240}
_HOST = r"^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$"

HostName = Annotated[str, Field(pattern=_HOST)]
Mac = Annotated[str, Field(pattern=r"^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$"), AfterValidator(str.lower)]
PublicKey = Annotated[str, Field(pattern=r"^(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\n]*)?$")]
Pem = Annotated[str, Field(pattern=r"^-----BEGIN ")]
DirectorKeys = ("interfaces", "user", "vips", "sync")
"""Keys of director.yaml that the installer writes."""


class Role(StrEnum):
    """What a machine becomes. `second-director`: of a pair, standby while the first is ready."""

    DIRECTOR = "director"
    SECOND = "second-director"
    BACKEND = "backend"

    @property
    def directs(self) -> bool:
        return self is not Role.BACKEND


def _inside(interface: IPv4Interface | IPv6Interface) -> IPv4Interface | IPv6Interface:
    if interface.network.prefixlen == interface.max_prefixlen:
        raise ValueError(
            f"{interface.ip} needs the length of its network's prefix: write {interface.ip}/24, say"
        )
    return interface


CardAddress = Annotated[IPv4Interface | IPv6Interface, AfterValidator(_inside)]


class ManagementSpec(Frozen):
    """A second card, for administrators. `address` is `dhcp` or an address with prefix."""

    mac: Mac
    address: Literal["dhcp"] | CardAddress = "dhcp"


class SyncKeys(Frozen):
    """This director's certificate, its key, and the authority of both directors' certificates, as PEM texts."""

    certificate: Pem
    key: Pem
    ca: Pem


class MachineSpec(Frozen):
    """One machine. `mac` is that of the card in the services' network; `disk` the serial number of the disk that
    may be erased, without it the first empty disk is taken. `vips`: of a backend, by default the services'."""

    role: Role
    mac: Mac | None = None
    addresses: Annotated[tuple[CardAddress, ...], Field(min_length=1, max_length=8)]
    gateway: HostAddress | None = None
    disk: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    management: ManagementSpec | None = None
    vips: Annotated[tuple[HostAddress, ...], Field(min_length=1)] | None = None
    sync_tls: SyncKeys | None = None

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.gateway and not any(self.gateway in each.network for each in self.addresses):
            raise ValueError(f"the gateway {self.gateway} is in the network of none of the addresses")
        if self.vips and self.role.directs:
            raise ValueError("vips are a backend's: a director has those of the services in `director`")
        if self.sync_tls and not self.role.directs:
            raise ValueError("sync_tls is a director's")
        if self.management and self.management.mac == self.mac:
            raise ValueError("management has the same mac as the machine: it needs a card of its own")
        return self


class SiteSpec(Frozen):
    """The whole file. `gateway`: of the machines that name none. `director`: what director.yaml says on each
    director, without `interfaces`, `user`, `vips` and `sync`, which the installer writes. `finish`: what a
    machine does when it is installed. `router_id`: of the pair's VRRP group. `insecure_sync`: whether the pair's
    connections may travel in the clear."""

    gateway: HostAddress | None = None
    nameservers: Annotated[tuple[HostAddress, ...], Field(max_length=3)] = ()
    authorized_keys: Annotated[tuple[PublicKey, ...], Field(max_length=64)] = ()
    password_hash: Annotated[str, Field(pattern=r"^\$(y|6|5|2b)\$[A-Za-z0-9./$=,]+$")] | None = None
    finish: Literal["poweroff", "reboot"] = "poweroff"
    router_id: Annotated[int, Field(ge=1, le=254)] = 51
    insecure_sync: bool = False
    director: dict[str, Any] = Field(default_factory=dict)
    machines: Annotated[dict[HostName, MachineSpec], Field(min_length=1, max_length=500)]

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if not self.authorized_keys and self.password_hash is None:
            raise ValueError("nobody could log in: give authorized_keys or password_hash")
        self._check_macs()
        self._check_pair()
        return self

    def _check_macs(self) -> None:
        if len(self.machines) > 1:
            for name, machine in self.machines.items():
                if machine.mac is None:
                    raise ValueError(f"machine '{name}' needs its mac: there is more than one machine")
        cards = [machine.mac for machine in self.machines.values() if machine.mac]
        if twice := _twice(cards):
            raise ValueError(f"the mac {twice} stands at two machines")
        if twice := _twice(each.ip for machine in self.machines.values() for each in machine.addresses):
            raise ValueError(f"the address {twice} stands at two machines")

    def _check_pair(self) -> None:
        by_role = {role: [name for name, each in self.machines.items() if each.role is role] for role in Role}
        for role in (Role.DIRECTOR, Role.SECOND):
            if len(by_role[role]) > 1:
                raise ValueError(
                    f"'{by_role[role][0]}' and '{by_role[role][1]}' are both the {role}: a file has one of each"
                )
        if not by_role[Role.SECOND]:
            return
        if not by_role[Role.DIRECTOR]:
            raise ValueError(f"'{by_role[Role.SECOND][0]}' is a second-director, and there is no director")
        for name in (*by_role[Role.DIRECTOR], *by_role[Role.SECOND]):
            if self.machines[name].sync_tls is None and not self.insecure_sync:
                raise ValueError(
                    f"director '{name}' of the pair needs sync_tls; or say `insecure_sync: true` where nobody else "
                    "can reach the directors' network"
                )

    def vips(self) -> list[Address]:
        """Of all services, each once, in order."""
        listeners = [each for service in _configuration(self).services.values() for each in service.listeners]
        return sorted({each.address for each in listeners}, key=lambda vip: (vip.version, int(vip)))

    def peers_of(self, name: str) -> list[str]:
        """The other directors of the pair."""
        return [each for each, machine in self.machines.items() if machine.role.directs and each != name]


class Chosen(NamedTuple):
    """A machine of the file, with its name."""

    name: str
    spec: MachineSpec


def read(text: str, source: str) -> SiteSpec:
    """ConfigurationError with line and column of the first thing that is wrong; each has a line."""
    found = yaml_document.parse(text, source)
    if found.data is None:
        raise ConfigurationError("the file is empty: it needs 'machines:'", source=source, line=1, column=1)
    try:
        site = SiteSpec.model_validate(found.data)
    except ValidationError as error:
        raise _refused(found, problems(error, found.data, SiteSpec)) from None
    for key in DirectorKeys:
        if key in site.director:
            told = Problem(("director", key), f"director.{key}: the installer writes it; remove it")
            raise _refused(found, [told])
    try:
        _configuration(site)
    except ValidationError as error:
        inside = problems(error, _director_document(site), Configuration)
        raise _refused(
            found,
            [
                Problem(("director", *each.path), f"director: {each.sentence}", each.of_whole)
                for each in inside
            ],
        ) from None
    _check_vips(site, found)
    return site


def machine_for(site: SiteSpec, macs: Iterable[str]) -> Chosen:
    """Which of the file's machines this one is, by its cards. NotFoundError when none."""
    mine = {mac.lower() for mac in macs}
    for name, machine in site.machines.items():
        if machine.mac in mine or (machine.mac is None and len(site.machines) == 1):
            return Chosen(name, machine)
    raise NotFoundError(
        f"the answer file has no machine with a card of this one: here are {', '.join(sorted(mine)) or 'none'}; "
        f"the file has {', '.join(sorted(each.mac or '' for each in site.machines.values()))}"
    )


def director_document(site: SiteSpec, name: str, interface: str) -> dict[str, Any]:
    """What director.yaml of that machine says."""
    document: dict[str, Any] = {"interfaces": [interface], "user": "xdpdirector"}
    if peers := site.peers_of(name):
        own, *others = (site.machines[each].addresses[0].ip for each in (name, *peers))
        sync: dict[str, Any] = {
            "listen": _endpoint(own),
            "peers": [_endpoint(other) for other in others],
            "name": name,
        }
        if site.machines[name].sync_tls:
            sync["tls"] = {kind: f"/etc/xdpdirector/sync-{kind}.pem" for kind in ("certificate", "key", "ca")}
        else:
            sync["insecure"] = True
        document |= {"vips": "external", "sync": sync}
    return document | site.director


def _endpoint(address: Address) -> str:
    return f"[{address}]:{SYNC_PORT}" if address.version == 6 else f"{address}:{SYNC_PORT}"


def _director_document(site: SiteSpec) -> dict[str, Any]:
    return {"interfaces": ["eth0"], "user": "xdpdirector", **site.director}


def _configuration(site: SiteSpec) -> Configuration:
    return Configuration.model_validate(_director_document(site))


def _check_vips(site: SiteSpec, found: Document) -> None:
    """A backend without VIPs would answer nobody; a pair without VIPs has nothing to move."""
    vips = site.vips()
    for name, machine in site.machines.items():
        if machine.role is Role.BACKEND and not machine.vips and not vips:
            sentence = f"backend '{name}' has no VIPs: give it vips, or services to director"
            raise _refused(found, [Problem(("machines", name), sentence)])
        if machine.role is Role.SECOND and not vips:
            sentence = "a pair moves the services' VIPs, and there is no service: give director its services"
            raise _refused(found, [Problem(("machines", name), sentence)])


def _refused(found: Document, told: list[Problem]) -> ConfigurationError:
    placed = sorted(((found.place(each.path), each) for each in told), key=lambda each: each[0])
    (first_place, first), *others = placed
    lines = [
        first.sentence,
        *(f"{found.source}:{line}:{column}: {each.sentence}" for (line, column), each in others),
    ]
    return ConfigurationError(
        "\n".join(lines),
        source=found.source,
        line=first_place[0],
        column=first_place[1],
        pointer=first.pointer,
    )


def _twice(values: Iterable[Any]) -> Any:
    seen = set()
    for value in values:
        if value in seen:
            return value
        seen.add(value)
    return None
