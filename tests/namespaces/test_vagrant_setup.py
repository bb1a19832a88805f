# SPDX-License-Identifier: Apache-2.0
"""What vagrant/provision/*-setup.sh write: run as on a machine, with an /etc of their own, a card on a LAN, and
stand-ins for what installs and what starts. The director's file is read by the director, nginx's by nginx."""

from __future__ import annotations

import io
import subprocess
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from xdpdirector.config import config_file
from xdpdirector.model import Configuration

pytestmark = pytest.mark.root

PROVISION = Path(__file__).parents[2] / "vagrant" / "provision"
ALONE = "director=192.0.2.2"
PAIR = "director=192.0.2.2 director2=192.0.2.3"
BACKENDS = "backend1=192.0.2.21 backend2=192.0.2.22"
STAND_INS = ("systemctl", "apt-get", "dpkg", "dpkg-deb", "dpkg-query", "usermod", "xdpdirector")
# systemctl says that networkd does not run, dpkg-query that all is installed, xdpdirector what keepalived needs.
# awk is one of Debian's alternatives.
MACHINE = """
set -e
ip link set lo up
ip link add eth1 type veth peer name lan
ip address add "$ADDRESS4/24" dev eth1
ip link set eth1 up
ip link set lan up
mount -t tmpfs tmpfs /tmp
cp -a /etc/alternatives /tmp/
mount -t tmpfs tmpfs /etc
mv /tmp/alternatives /etc/
mkdir -p /etc/stand-ins /etc/xdpdirector /etc/keepalived /etc/network/if-up.d /etc/nginx/sites-{available,enabled}
touch /etc/nginx/sites-enabled/default /tmp/xdpdirector.deb /tmp/xdpdirector-backend.deb
for name in $STAND_INS; do
    cat >/etc/stand-ins/$name <<'END'
#!/bin/bash
echo "${0##*/} $*" >>/etc/calls
case ${0##*/}-$* in
    systemctl-*is-active*) exit 3 ;;
    dpkg-query-*) echo -n installed ;;
    xdpdirector-keepalived-config*) echo written ;;
esac
END
done
chmod 755 /etc/stand-ins/*
export PATH=/etc/stand-ins:$PATH
for turn in 1 2; do bash -e -c "$SCRIPT" >&2; done # once more: it may be run again at any time
ip -o -6 address show dev eth1 to "$ADDRESS6" >/etc/address6
echo root:x:0: >/etc/group
echo root:x:0:0::/root:/bin/sh >/etc/passwd
cat >/tmp/nginx.conf <<'END'
user root;
pid /tmp/nginx.pid;
events {}
http { include /etc/nginx/sites-enabled/*; }
END
if [ -e /etc/nginx/sites-enabled/who ]; then nginx -q -t -c /tmp/nginx.conf -e /tmp/error.log; fi
rm -r /etc/stand-ins /etc/alternatives
tar -c -C /etc .
"""


def set_up(role: str, number: int, name: str, directors: str = ALONE) -> dict[str, str]:
    """The files of /etc, and `calls` of the stand-ins."""
    script = "\n".join((PROVISION / f"{part}.sh").read_text() for part in ("common", f"{role}-setup"))
    knowledge = {
        "NAME": name,
        "ADDRESS4": f"192.0.2.{number}",
        "ADDRESS6": f"2001:db8::{number}",
        "VIP4": "192.0.2.10",
        "VIP6": "2001:db8::10",
        "DIRECTORS": directors,
        "BACKENDS": BACKENDS,
        "PATIENCE": "0",
        "ADVERT": "3",
        "GIVE_UP": "180",
        "SCRIPT": script,
        "STAND_INS": " ".join(STAND_INS),
        "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    }
    inside: Sequence[str] = ["unshare", "--net", "--mount", "--propagation", "private", "bash", "-c", MACHINE]
    done = subprocess.run(inside, env=knowledge, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr.decode()
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = {
            member.name.removeprefix("./"): archive.extractfile(member)
            for member in archive
            if member.isfile()
        }
        return {path: file.read().decode() for path, file in members.items() if file}


def configured(files: dict[str, str], place: Path) -> Configuration:
    path = place / "director.yaml"
    path.write_text(files["xdpdirector/director.yaml"])
    return config_file.load(path)


def test_a_backend_serves_its_name_and_has_the_vips() -> None:
    files = set_up("backend", 21, "backend1")

    assert files["xdpdirector/backend.conf"].split() == ["192.0.2.10", "2001:db8::10"]
    assert 'return 200 "backend1\\n"' in files["nginx/sites-available/who"]
    assert "nginx/sites-enabled/default" not in files
    assert "dpkg --install --force-confold /tmp/xdpdirector-backend.deb" in files["calls"]
    assert "systemctl restart nginx" in files["calls"]


def test_the_address_that_vagrant_does_not_give_is_there_and_comes_back() -> None:
    files = set_up("client", 100, "client")

    assert "2001:db8::100/64" in files["address6"]
    assert "2001:db8::100/64 dev eth1 nodad" in files["network/if-up.d/address6"]


def test_what_the_box_has_is_not_fetched() -> None:
    files = set_up("client", 100, "client")

    assert "apt-get" not in files["calls"]


def test_one_director_keeps_the_vips_and_sends_to_the_least_busy(tmp_path: Path) -> None:
    files = set_up("director", 2, "director")

    found = configured(files, tmp_path)
    web = found.services["web"]
    assert (found.vips, list(found.interfaces), web.scheduler) == ("manage", ["eth1"], "wlc")
    assert {name: str(one.address) for name, one in web.backends.items()} == dict(
        pair.split("=") for pair in BACKENDS.split()
    )
    assert "keepalived/keepalived.conf" not in files
    assert files["calls"].splitlines()[-1] == "systemctl restart xdpdirector-load xdpdirector"


@pytest.mark.parametrize(
    ("name", "number", "peer", "priority"),
    [("director", 2, "192.0.2.3", 250), ("director2", 3, "192.0.2.2", 240)],
)
def test_two_directors_leave_the_vips_to_keepalived_and_have_each_others_connections(
    tmp_path: Path, name: str, number: int, peer: str, priority: int
) -> None:
    files = set_up("director", number, name, PAIR)

    found = configured(files, tmp_path)
    assert (found.vips, found.services["web"].scheduler) == ("external", "wlc")
    assert found.sync
    assert str(found.sync.listen) == f"192.0.2.{number}:8651"
    assert list(map(str, found.sync.peers)) == [f"{peer}:8651"]
    assert files["keepalived/keepalived.conf"] == "written\n"
    assert files["calls"].splitlines()[-5:] == [
        "systemctl restart xdpdirector-load xdpdirector",
        "dpkg-query -W -f ${db:Status-Status} keepalived",
        f"xdpdirector keepalived-config --priority {priority} --advert 3 --patience 180",
        "systemctl --quiet enable keepalived",
        "systemctl restart keepalived",
    ]
