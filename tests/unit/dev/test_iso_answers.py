# SPDX-License-Identifier: Apache-2.0
"""The answer file of the install CD: what it may say, which machine it means, how its faults are named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dev.iso.medium import answers
from dev.iso.medium.answers import Role
from xdpdirector.errors import ConfigurationError, NotFoundError
from xdpdirector.model import Configuration

FIRST, SECOND, WEB, OTHER = (f"52:54:00:00:00:{number}" for number in ("0a", "0b", "0c", "0d"))
RACK = f"""\
gateway: 192.0.2.254
authorized_keys: ["ssh-ed25519 AAAA admin@example"]
insecure_sync: true
director:
  services:
    web:
      listeners: ["192.0.2.10:80/tcp", "[2001:db8::10]:80/tcp", "192.0.2.10:443/tcp"]
      backends:
        web1: {{address: 192.0.2.21}}
machines:
  director1: {{role: director, mac: "{FIRST}", addresses: [192.0.2.1/24]}}
  director2: {{role: second-director, mac: "{SECOND}", addresses: [192.0.2.2/24], disk: WD-1}}
  web1: {{role: backend, mac: "{WEB}", addresses: [192.0.2.21/24, "2001:db8::21/64"]}}
"""
ALONE = """\
password_hash: $y$j9T$abc$def
machines:
  director: {role: director, addresses: [192.0.2.1/24]}
"""


def test_each_machine_of_a_rack_is_found_by_a_card() -> None:
    site = answers.read(RACK, "site.yaml")

    found = answers.machine_for(site, ["52:54:00:00:00:ff", WEB.upper()])

    assert (found.name, found.spec.role) == ("web1", Role.BACKEND)


def test_a_machine_that_is_not_in_the_rack_is_refused_with_its_cards() -> None:
    site = answers.read(RACK, "site.yaml")

    with pytest.raises(NotFoundError, match=f"here are {OTHER}; the file has {FIRST}, {SECOND}, {WEB}"):
        answers.machine_for(site, [OTHER])


def test_the_only_machine_of_a_file_needs_no_mac() -> None:
    assert answers.machine_for(answers.read(ALONE, "site.yaml"), [OTHER]).name == "director"


def test_vips_are_those_of_all_services_each_once() -> None:
    assert [str(vip) for vip in answers.read(RACK, "site.yaml").vips()] == ["192.0.2.10", "2001:db8::10"]


@pytest.mark.parametrize(("name", "peer"), [("director1", "192.0.2.2:8651"), ("director2", "192.0.2.1:8651")])
def test_each_director_of_a_pair_knows_the_other(name: str, peer: str) -> None:
    document = answers.director_document(answers.read(RACK, "site.yaml"), name, "enp1s0")

    configuration = Configuration.model_validate(document)

    assert configuration.interfaces == ("enp1s0",)
    assert configuration.vips == "external"
    assert configuration.sync is not None
    assert [str(each) for each in configuration.sync.peers] == [peer]


def test_a_director_alone_moves_its_vips_itself() -> None:
    document = answers.director_document(answers.read(ALONE, "site.yaml"), "director", "enp1s0")

    assert document == {"interfaces": ["enp1s0"], "user": "xdpdirector"}


FAULTS = {
    "role": ("role: backend", "role: server", "13:10: role of web1 of machines: unknown role 'server'"),
    "prefix": ("192.0.2.1/24", "192.0.2.1", "192.0.2.1 needs the length of its network's prefix"),
    "mac": (f'"{FIRST}"', "here", "mac of director1 of machines: 'here' must match"),
    "mac twice": (SECOND, FIRST, f"the mac {FIRST} stands at two machines"),
    "address twice": ("192.0.2.2/24", "192.0.2.1/24", "the address 192.0.2.1 stands at two machines"),
    "no mac": (f'mac: "{WEB}", ', "", "machine 'web1' needs its mac"),
    "unknown key": ("disk: WD-1", "disc: WD-1", "unknown key 'disc': did you mean 'disk'?"),
    "two directors": ("second-director", "director", "'director1' and 'director2' are both the director"),
    "no first": (
        "role: director,",
        "role: backend,",
        "'director2' is a second-director, and there is no director",
    ),
    "in the clear": ("insecure_sync: true\n", "", "director 'director1' of the pair needs sync_tls"),
    "nobody": (
        "authorized_keys",
        "nameservers: [] #",
        "nobody could log in: give authorized_keys or password_hash",
    ),
    "listener": ("[2001:db8::10]:80/tcp", "web:80", "director: item 2 of listeners of service 'web'"),
    "service": ("backends:", "backend:", "director: service 'web': unknown key 'backend'"),
    "interfaces": (
        "  services:",
        "  interfaces: [eth0]\n  services:",
        "director.interfaces: the installer writes it",
    ),
    "yaml": ("machines:", "machines: [", "site.yaml:"),
    "gateway": (
        "addresses: [192.0.2.1/24]",
        "addresses: [192.0.2.1/24], gateway: 198.51.100.1",
        "198.51.100.1 is in",
    ),
    "vips": ("role: director,", "role: director, vips: [192.0.2.9],", "vips are a backend's"),
}


@pytest.mark.parametrize(("there", "instead", "sentence"), FAULTS.values(), ids=FAULTS)
def test_a_fault_is_named_with_its_place(there: str, instead: str, sentence: str) -> None:
    assert there in RACK

    with pytest.raises(ConfigurationError) as caught:
        answers.read(RACK.replace(there, instead), "site.yaml")

    assert sentence in caught.value.detail
    assert caught.value.detail.startswith("site.yaml:")


def test_a_backend_without_vips_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="backend 'director' has no VIPs"):
        answers.read(ALONE.replace("role: director", "role: backend"), "site.yaml")


@pytest.mark.parametrize("text", ["", "# nothing\n"])
def test_an_empty_file_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="the file is empty"):
        answers.read(text, "site.yaml")


def test_the_documents_example_is_a_file_that_the_installer_takes() -> None:
    document = (Path(__file__).parents[3] / "docs/install-cd.md").read_text()
    [example] = re.findall(r"```yaml\n(.*?)```", document, re.DOTALL)

    site = answers.read(example, "site.yaml")

    assert {machine.role for machine in site.machines.values()} == set(Role)


def test_the_document_has_every_key() -> None:
    document = (Path(__file__).parents[3] / "docs/install-cd.md").read_text()

    for model in (answers.SiteSpec, answers.MachineSpec):
        for name in model.model_fields:
            assert f"`{name}`" in document, name
