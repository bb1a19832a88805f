# SPDX-License-Identifier: Apache-2.0
"""What a machine gets by its role: files, units, and who may log in. Pure: values in, values out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from io import StringIO
from typing import Any

from ruamel.yaml import YAML

from dev.iso.medium.answers import PRIORITIES, Chosen, ManagementSpec, Role, SiteSpec, director_document
from xdpdirector.ha.keepalived import Vrrp, render
from xdpdirector.model.listener import Address

DASHBOARD = 8650
DIRECTOR_GROUP = "xdpdirector"
WAITING = "etc/xdpdirector/first-login"
"""While it is there, each boot shows a token for the first login on the console."""
_HEAD = "# Written by the install CD.\n"
_READY = "/usr/bin/xdpdirector -i default status --ready"


@dataclass(frozen=True)
class File:
    """`group` owns it together with root."""

    text: str
    mode: int = 0o644
    group: str = "root"


@dataclass(frozen=True)
class Settings:
    """`files` by their path below the root. `units` are enabled. `password`: root's, hashed, or None: locked."""

    files: Mapping[str, File]
    units: tuple[str, ...] = ()
    password: str | None = None
    certificate: bool = False
    """Whether the director needs a certificate of its own for its dashboard."""


@dataclass(frozen=True)
class Cards:
    """The machine's network cards: name by MAC."""

    names: Mapping[str, str] = field(default_factory=dict)

    def name(self, mac: str | None) -> str:
        """Of the first card without `mac`."""
        if mac is not None:
            return self.names[mac]
        return next(iter(self.names.values()))

    def mac(self, name: str) -> str:
        return next(mac for mac, each in self.names.items() if each == name)


def of_machine(site: SiteSpec, machine: Chosen, cards: Cards) -> Settings:
    """A machine of the answer file. KeyError when it lacks a card that the file names."""
    name, spec = machine
    interface = cards.name(spec.mac)
    files = _host(name) | _network(site, machine, cards.mac(interface))
    if site.authorized_keys:
        files["root/.ssh/authorized_keys"] = File("".join(f"{key}\n" for key in site.authorized_keys), 0o600)
    if spec.role is Role.BACKEND:
        vips = spec.vips or site.vips()
        files |= _backend(name, vips)
        return Settings(files, ("xdpdirector-backend", "nginx"), site.password_hash)
    files["etc/xdpdirector/director.yaml"] = File(_yaml(director_document(site, name, interface)))
    if spec.sync_tls:
        for kind, text in spec.sync_tls.model_dump().items():
            secret = (0o640, DIRECTOR_GROUP) if kind == "key" else (0o644, "root")
            files[f"etc/xdpdirector/sync-{kind}.pem"] = File(text, *secret)
    units: tuple[str, ...] = ("xdpdirector",)
    if peers := site.peers_of(name):
        others = [site.machines[each].addresses[0].ip for each in peers]
        files["etc/keepalived/keepalived.conf"] = File(
            _keepalived(site, spec.role, interface, [spec.addresses[0].ip], others)
        )
        units = (*units, "keepalived")
    return Settings(files, units, site.password_hash)


def waiting(interface: str) -> Settings:
    """Without answers: a director whose dashboard waits for its configuration."""
    document = {
        "interfaces": [interface],
        "user": "xdpdirector",
        "api": {
            "listen": [f"0.0.0.0:{DASHBOARD}"],
            "tls": {"certificate": "/etc/xdpdirector/api.pem", "key": "/etc/xdpdirector/api.key"},
        },
    }
    text = "[Match]\nType=ether\n[Network]\nDHCP=yes\n[DHCPv4]\nUseDomains=yes\n"
    files = {
        **_host("director"),
        "etc/systemd/network/50-dhcp.network": File(_HEAD + text),
        "etc/xdpdirector/director.yaml": File(_yaml(document)),
        WAITING: File(
            "each boot makes a token for the first login, while this file is here and no service is\n"
        ),
    }
    return Settings(files, ("xdpdirector", "xdpdirector-first-login"), certificate=True)


def _host(name: str) -> dict[str, File]:
    hosts = f"127.0.0.1 localhost\n127.0.1.1 {name}\n::1 localhost ip6-localhost ip6-loopback\n"
    return {"etc/hostname": File(f"{name}\n"), "etc/hosts": File(hosts)}


def _network(site: SiteSpec, machine: Chosen, mac: str) -> dict[str, File]:
    spec = machine.spec
    lines = [f"Address={address}" for address in spec.addresses]
    gateway = spec.gateway or site.gateway
    if gateway and any(gateway in each.network for each in spec.addresses):
        lines.append(f"Gateway={gateway}")
    lines += [f"DNS={server}" for server in site.nameservers]
    files = {"etc/systemd/network/10-services.network": File(_card(mac, *lines, "IPv6AcceptRA=no"))}
    if spec.management:
        files["etc/systemd/network/20-management.network"] = File(_management(spec.management))
    return files


def _management(card: ManagementSpec) -> str:
    line = "DHCP=yes" if card.address == "dhcp" else f"Address={card.address}"
    return _card(card.mac, line)


def _card(mac: str, *lines: str) -> str:
    settings = "".join(f"{line}\n" for line in lines)
    return f"{_HEAD}[Match]\nMACAddress={mac}\nType=ether\n[Network]\n{settings}"


def _backend(name: str, vips: Any) -> dict[str, File]:
    return {
        "etc/xdpdirector/backend.conf": File(_HEAD + "".join(f"{vip}\n" for vip in vips)),
        "var/www/html/index.html": File(f"{name}\n"),
        "var/www/html/healthz": File("ok\n"),
    }


def _keepalived(site: SiteSpec, role: Role, interface: str, own: list[Address], others: list[Address]) -> str:
    return render(
        Vrrp(
            vips=site.vips(),
            interface=interface,
            ready=_READY,
            own=own,
            peers=others,
            router_id=site.router_id,
            priority=PRIORITIES[role],
        )
    )


def _yaml(document: Mapping[str, Any]) -> str:
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    text = StringIO()
    yaml.dump(dict(document), text)
    return _HEAD + text.getvalue()
