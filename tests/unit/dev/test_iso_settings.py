# SPDX-License-Identifier: Apache-2.0
"""What a machine gets by its role, and where the installer looks for its answers."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from dev.iso import build, medium
from dev.iso.medium import answers, rescue, settings, sources, target
from dev.iso.medium.machine import InstallError
from dev.iso.medium.settings import Cards, Settings
from tests.unit.dev.test_iso_answers import ALONE, FIRST, RACK, SECOND, WEB
from xdpdirector.config import config_file, yaml_document

CARDS = Cards({FIRST: "enp1s0", SECOND: "enp2s0", WEB: "enp3s0"})


def settings_of(mac: str, text: str = RACK) -> Settings:
    site = answers.read(text, "site.yaml")
    return settings.of_machine(site, answers.machine_for(site, [mac]), CARDS)


def text(found: Settings, name: str) -> str:
    return found.files[name].text


def test_a_backend_has_the_vips_and_a_server() -> None:
    found = settings_of(WEB)

    assert text(found, "etc/xdpdirector/backend.conf").splitlines()[1:] == ["192.0.2.10", "2001:db8::10"]
    assert text(found, "var/www/html/index.html") == "web1\n"
    assert found.units == ("xdpdirector-backend", "nginx")
    assert "etc/xdpdirector/director.yaml" not in found.files


def test_a_machine_has_its_addresses_on_the_card_that_the_file_names() -> None:
    network = text(settings_of(WEB), "etc/systemd/network/10-services.network")

    assert network.splitlines()[1:] == [
        *("[Match]", f"MACAddress={WEB}", "Type=ether"),
        *(
            "[Network]",
            "Address=192.0.2.21/24",
            "Address=2001:db8::21/64",
            "Gateway=192.0.2.254",
            "IPv6AcceptRA=no",
        ),
    ]


def test_a_gateway_of_another_network_is_left_to_the_machines_that_reach_it() -> None:
    found = settings_of(FIRST, RACK.replace("[192.0.2.1/24]", "[198.51.100.1/24]"))

    assert "Gateway" not in text(found, "etc/systemd/network/10-services.network")


@pytest.mark.parametrize(("mac", "interface", "priority"), [(FIRST, "enp1s0", 250), (SECOND, "enp2s0", 240)])
def test_the_first_director_of_a_pair_has_the_higher_priority(
    mac: str, interface: str, priority: int
) -> None:
    found = settings_of(mac)

    vrrp = text(found, "etc/keepalived/keepalived.conf")
    assert f"priority {priority}\n" in vrrp
    assert f"192.0.2.10/32 dev {interface}\n" in vrrp
    assert found.units == ("xdpdirector", "keepalived")


def test_a_director_alone_has_no_vrrp() -> None:
    found = settings_of(FIRST, ALONE)

    assert "etc/keepalived/keepalived.conf" not in found.files
    assert (found.units, found.password) == (("xdpdirector",), "$y$j9T$abc$def")


@pytest.mark.parametrize("found", [settings_of(FIRST), settings_of(FIRST, ALONE), settings.waiting("enp1s0")])
def test_a_directors_file_is_one_that_the_daemon_takes(found: Settings) -> None:
    document = yaml_document.parse(text(found, "etc/xdpdirector/director.yaml"), "director.yaml")

    assert config_file.understood(document).interfaces == ("enp1s0",)


def test_who_may_log_in_is_a_secret_of_root() -> None:
    file = settings_of(FIRST).files["root/.ssh/authorized_keys"]

    assert (file.text, file.mode, file.group) == ("ssh-ed25519 AAAA admin@example\n", 0o600, "root")


def test_a_certificates_key_is_the_directors() -> None:
    pem = '"-----BEGIN X-----"'
    keys = f"sync_tls: {{certificate: {pem}, key: {pem}, ca: {pem}}}, addresses"
    found = settings_of(FIRST, RACK.replace("addresses", keys, 2))

    key = found.files["etc/xdpdirector/sync-key.pem"]
    assert (key.mode, key.group) == (0o640, "xdpdirector")
    assert "insecure" not in text(found, "etc/xdpdirector/director.yaml")


def test_a_waiting_director_has_a_dashboard_over_tls_and_shows_a_token() -> None:
    found = settings.waiting("enp1s0")

    assert found.certificate
    assert settings.WAITING in found.files
    assert "xdpdirector-first-login" in found.units


def test_a_password_is_roots() -> None:
    shadow = "root:!*:19000:0:99999:7:::\ndaemon:*:19000:0:99999:7:::\n"

    assert target.with_password(shadow, "$y$x") == shadow.replace("!*", "$y$x", 1)


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("boot=live quiet", None),
        ("xdpdirector.answers=/rack2.yaml", "/rack2.yaml"),
        ("xdpdirector.answers=LABEL=RACK quiet", "LABEL=RACK"),
        (
            "xdpdirector.answers=/a xdpdirector.answers=http://192.0.2.9/site.yaml",
            "http://192.0.2.9/site.yaml",
        ),
    ],
)
def test_the_kernels_command_line_names_the_answers(line: str, wanted: str | None) -> None:
    assert sources.named(line) == wanted


@pytest.mark.parametrize("value", ["", "site.yaml", "ftp://192.0.2.9/site.yaml"])
def test_what_cannot_be_answers_is_refused(value: str) -> None:
    with pytest.raises(InstallError, match="write a path on this medium"):
        sources.named(f"xdpdirector.answers={value}")


LEASE = "# This is private data.\nADDRESS=192.0.2.121\nSERVER_ADDRESS=192.0.2.100\n"


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ("", None),
        (f"OPTION_224={b'http://192.0.2.9/site.yaml'.hex()}\n", "http://192.0.2.9/site.yaml"),
        (f"OPTION_224={b'https://site.example/a'.hex()}00\n", "https://site.example/a"),
        (f"OPTION_225={b'http://192.0.2.9/site.yaml'.hex()}\n", None),
    ],
    ids=["none", "http", "with a zero at its end", "another option"],
)
def test_dhcp_names_the_answers(option: str, wanted: str | None) -> None:
    assert sources.offered(LEASE + option) == wanted


@pytest.mark.parametrize("value", [b"pxelinux.0".hex(), b"".hex(), "ff", "no hexadecimal"])
def test_what_dhcp_names_is_an_address_of_answers(value: str) -> None:
    with pytest.raises(InstallError, match="DHCP's option 224 is no address"):
        sources.offered(f"{LEASE}OPTION_224={value}\n")


def test_the_medium_asks_dhcp_for_what_it_looks_for() -> None:
    network = (build.FILES / "live/live.network").read_text()

    assert f"RequestOptions={sources.DHCP_OPTION}\n" in network


def test_the_rescued_disk_is_the_only_one_or_the_named() -> None:
    assert rescue.only(["/dev/sda"], None) == "/dev/sda"
    assert rescue.only(["/dev/sda", "/dev/sdb"], "/dev/sdb") == "/dev/sdb"


@pytest.mark.parametrize(
    ("found", "wanted", "sentence"),
    [
        ([], None, "no disk has an installed system"),
        (["/dev/sda", "/dev/sdb"], None, "say --disk /dev/sda or --disk /dev/sdb"),
        (["/dev/sda"], "/dev/sdb", "/dev/sdb has no system of this installer: those have /dev/sda"),
    ],
)
def test_no_other_disk_is_rescued(found: list[str], wanted: str | None, sentence: str) -> None:
    with pytest.raises(InstallError, match=sentence):
        rescue.only(found, wanted)


def test_what_runs_on_the_medium_imports_nothing_that_is_not_there() -> None:
    imported = set()
    for path in Path(medium.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                imported.add(node.module)

    ours = {name for name in imported if name.startswith("dev")}
    assert ours
    assert {name for name in ours if not name.startswith("dev.iso.medium")} == set()
