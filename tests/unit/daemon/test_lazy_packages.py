# SPDX-License-Identifier: Apache-2.0
"""Parts of a package without its `__init__`: in a process of its own each, as that is for good."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = {
    "__init__.py": "raise RuntimeError('all of it is loaded')",
    "part.py": "from shop.other import NUMBER",
    "other.py": "NUMBER = 7",
}


def python(source: str, *path: Path) -> str:
    program = f"import sys; sys.path[:0] = {[str(place) for place in path]}\n{source}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    (tmp_path / "shop").mkdir()
    for name, text in PACKAGE.items():
        (tmp_path / "shop" / name).write_text(text)
    return tmp_path


def test_a_part_comes_without_the_whole(shop: Path) -> None:
    source = "from xdpdirector.daemon.lazy_packages import only_parts_of\nonly_parts_of('shop')\n"

    assert python(source + "import shop.part; print(shop.part.NUMBER)", shop) == "7"


def test_what_is_asked_of_the_whole_comes_from_its_home(shop: Path) -> None:
    source = (
        "from xdpdirector.daemon.lazy_packages import only_parts_of\n"
        "only_parts_of('shop', NUMBER='shop.other')\n"
    )
    source += "from shop import NUMBER\nimport shop\nprint(NUMBER, hasattr(shop, 'PRICE'))"

    assert python(source, shop) == "7 False"


def test_a_part_of_a_package_inside_of_another_comes_without_that_one(shop: Path) -> None:
    (shop / "shop" / "till").mkdir()
    (shop / "shop" / "till" / "__init__.py").write_text("raise RuntimeError('all of it is loaded')")
    (shop / "shop" / "till" / "coins.py").write_text("COINS = 5")
    source = (
        "from xdpdirector.daemon.lazy_packages import only_parts_of\n"
        "only_parts_of('shop')\n"
        "only_parts_of('shop.till')\n"
        "import shop.till.coins; print(shop.till.coins.COINS)"
    )

    assert python(source, shop) == "5"


def test_a_package_that_is_left_out_is_as_if_it_were_not_installed(shop: Path) -> None:
    (shop / "shop" / "__init__.py").write_text("")
    source = """
import json
from xdpdirector.daemon.lazy_packages import without
without('shop.part')
without('json')
import json
try:
    from shop import part
except ImportError:
    print('left out', json.dumps(7))
"""

    assert python(source, shop) == "left out 7"


def test_models_get_their_validators_when_they_are_used(shop: Path) -> None:
    (shop / "shop" / "__init__.py").write_text("")
    (shop / "shop" / "models.py").write_text(
        "from pydantic import BaseModel\nclass Price(BaseModel):\n    cents: int\n"
    )
    source = """
from xdpdirector.daemon.lazy_packages import with_models_when_used
with_models_when_used('shop.models')
from pydantic import BaseModel
from shop.models import Price
class Other(BaseModel):
    cents: int
print(Price.__pydantic_complete__, Other.__pydantic_complete__, Price(cents='7').cents)
"""

    assert python(source, shop) == "False True 7"


@pytest.mark.parametrize("name", ["json", "no_such_package"], ids=["loaded already", "not there"])
def test_other_packages_stay_as_they_are(name: str) -> None:
    source = f"""
import json
from xdpdirector.daemon.lazy_packages import only_parts_of
before = dict(sys.modules)
only_parts_of({name!r})
print(before == sys.modules)
"""

    assert python(source) == "True"


def test_the_daemon_gets_along_with_parts() -> None:
    source = """
import socket
from xdpdirector.cli.daemon_entry import PARTS, UNUSED
from xdpdirector.daemon.lazy_packages import only_parts_of, without
for package, homes in PARTS.items():
    only_parts_of(package, **homes)
for package in UNUSED:
    without(package)
import xdpdirector.daemon.lifecycle
from xdpdirector.net import interfaces
from xdpdirector.api.routes.metrics import text
from xdpdirector.api.server.server import Server
from xdpdirector.net.netlink import Requests
Server(lambda: None, []).config.load()
with Requests() as requests:
    names = [link.name for link in interfaces.everything(requests)]
up = text(None).split(b"xdpdirector_up ")[-1].split()[0].decode()
costly = (
    "pyroute2.ndb", "pyroute2.iproute", "pyroute2.ethtool.ethtool", "pyroute2.netlink.generic", "uvicorn.main",
    "click", "wsgiref", "typer", "rich", "difflib", "pydantic.v1.main", "numpy.ma", "bcc", "scapy",
    "xdpdirector.doctor", "xdpdirector.replay", "xdpdirector.storage.etcd", "xdpdirector.sync.connection_sync",
    "xdpdirector.sync.ipvs.message", "xdpdirector.lab",
)
print("lo" in names, up, [name for name in costly if name in sys.modules])
"""

    assert python(source) == "True 0 []"
