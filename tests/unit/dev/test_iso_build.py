# SPDX-License-Identifier: Apache-2.0
"""How the install CD is built: its list of packages, its files, what a machine in emulation is given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from dev.iso import build, recipe, root, sbom
from dev.iso.emulator import Hardware, command
from xdpdirector.lab.errors import LabError

LISTING = "nginx-light\t1.22.1-9\tamd64\tnginx\t1.22.1-9\nlibc6\t1:2.36-9+deb12u1\tamd64\tglibc\t2.36-9\n"


def parts() -> list[sbom.Part]:
    return [*sbom.debian(LISTING), *sbom.python({"pydantic": "2.11.1"})]


def test_the_list_of_packages_names_each_with_its_version() -> None:
    document = json.loads(sbom.document("xdpdirector", 1_796_000_000, parts()))

    assert document["spdxVersion"] == "SPDX-2.3"
    assert document["creationInfo"]["created"] == "2026-11-30T00:53:20Z"
    assert [each["externalRefs"][0]["referenceLocator"] for each in document["packages"]] == [
        "pkg:deb/debian/libc6@1%3A2.36-9%2Bdeb12u1?arch=amd64",
        "pkg:deb/debian/nginx-light@1.22.1-9?arch=amd64",
        "pkg:pypi/pydantic@2.11.1",
    ]
    identifiers = [each["SPDXID"] for each in document["packages"]]
    assert len(set(identifiers)) == len(identifiers)
    assert [each["relatedSpdxElement"] for each in document["relationships"]] == identifiers


def test_the_same_packages_make_the_same_list() -> None:
    assert sbom.document("a", 0, parts()) == sbom.document("a", 0, parts())
    assert sbom.document("a", 0, parts()) != sbom.document("a", 0, parts()[1:])


@pytest.mark.parametrize(("folder", "places"), [("live", build._LIVE), ("installed", build._INSTALLED)])
def test_each_file_has_a_place(folder: str, places: dict[str, str]) -> None:
    assert {path.name for path in (build.FILES / folder).iterdir()} == set(places)


def test_the_menu_installs_by_itself_after_ten_seconds() -> None:
    menu = (build.FILES / "grub.cfg").read_text()

    assert "set timeout=10\nset default=install\n" in menu
    for name in ("install", "rescue"):
        assert f"systemd.unit=xdpdirector-{name}.target" in menu
        assert f"xdpdirector-{name}.target" in build._LIVE


def test_what_the_directors_package_depends_on_is_on_the_medium() -> None:
    control = (Path(__file__).parents[3] / "debian/control").read_text()
    depends = control.partition("Package: xdpdirector\n")[2].partition("Recommends:")[0]
    names = {line.split()[0].strip(",") for line in depends.replace(", ", "\n").splitlines() if line.strip()}
    wanted = {name for name in names if name.startswith(("python3-", "lib", "linux-", "iproute2"))}

    assert len(wanted) == 6
    assert wanted <= set(recipe.PACKAGES)


def test_a_machine_starts_from_its_medium_first(tmp_path: Path) -> None:
    hardware = Hardware(
        "director", "52:54:00:00:00:01", tmp_path / "disk", "S1", [tmp_path / "cd"], uefi=True
    )

    line = " ".join(command(hardware, tmp_path))

    assert "ide-cd,bus=ide.0,drive=medium0,bootindex=1" in line
    assert "virtio-blk-pci,drive=disk,serial=S1,bootindex=2" in line
    assert "if=pflash" in line


def test_a_kernel_says_its_release_and_version_before_it_runs() -> None:
    said = b"6.1.0-57-amd64 (debian-kernel@lists.debian.org) #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-3 (2026-11-26)"
    start = bytes(0x202) + b"HdrS" + bytes(8) + (0x3000).to_bytes(2, "little")

    image = start.ljust(0x3200, b"\1") + said + b"\0rest"

    assert root.kernel_name(image) == "6.1.0-57-amd64 #1 SMP PREEMPT_DYNAMIC Debian 6.1.192-3 (2026-11-26)"
    with pytest.raises(LabError, match="does not say which one it is"):
        root.kernel_name(image.replace(b"HdrS", b"...."))


def test_no_password_says_on_which_day_the_medium_was_made() -> None:
    shadow = "root:!*:20787:0:99999:7:::\ndaemon:*:20788:0:99999:7:::\n"

    assert root.dated(shadow, 20000) == "root:!*:20000:0:99999:7:::\ndaemon:*:20000:0:99999:7:::\n"
