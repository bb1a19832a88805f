# SPDX-License-Identifier: Apache-2.0
"""Who owns the pins, databases and sockets, and what root does with what the daemon's user has made."""

import os
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.support.lab_director import (
    command,
)
from tests.support.unprivileged import CAPABILITIES, NOT_ALLOWED, USER, as_user, status_of
from xdpdirector.errors import NotAllowedError
from xdpdirector.lab import Lab
from xdpdirector.lab.director import LabDirector
from xdpdirector.system.privileges import Account

pytestmark = [pytest.mark.root, pytest.mark.backends(2), pytest.mark.user(USER)]

STRANGER = "nobody"


def test_another_user_is_told_whose_it_is(director: LabDirector) -> None:
    done = director.host.run(*as_user(STRANGER, *director.command, capabilities=CAPABILITIES), check=False)

    assert done.returncode == NOT_ALLOWED
    assert "run as root" in done.stderr or "`user`" in done.stderr


OPEN_PINS = """
import sys
from pathlib import Path
from xdpdirector import libbpf
opened = 0
for path in map(Path, sys.argv[1:]):
    try:
        libbpf.obj_get(path)
        opened += 1
    except PermissionError:
        pass
print(opened)
"""


def pins(director: LabDirector) -> list[str]:
    return [str(path) for path in director.paths.pins.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("user", "groups", "opened", "exit_code"),
    [(USER, "", True, 0), (STRANGER, "", False, NOT_ALLOWED), (STRANGER, USER, False, 0)],
    ids=["its own user", "a stranger", "an operator in the group"],
)
def test_its_files_are_the_border(
    director: LabDirector, user: str, groups: str, opened: bool, exit_code: int
) -> None:
    """Its user has pins and socket, its group the socket, and everybody else neither."""
    paths = pins(director)
    group = str(Account.of(groups).gid) if groups else ""

    count = director.host.run(*as_user(user, sys.executable, "-c", OPEN_PINS, *paths, groups=group)).stdout
    status = director.host.run(
        *as_user(user, *director.command[:-3], "service", "list", groups=group), check=False
    )

    assert int(count) == (len(paths) if opened else 0)
    assert status.returncode == exit_code
    for secret in (director.paths.state, director.paths.access):
        read = director.host.run(*as_user(user, "cat", str(secret), groups=group), check=False)
        assert (read.returncode == 0) is opened


def test_nobody_but_root_changes_the_pins(director: LabDirector) -> None:
    victim = pins(director)[0]

    done = director.host.run(*as_user(USER, "rm", "-f", victim), check=False)

    assert done.returncode != 0
    assert Path(victim).exists()


def test_an_operator_stands_beside_changes_by_name(director: LabDirector) -> None:
    group = str(Account.of(USER).gid)
    line = [*director.command[:-3], "backend", "set", "web/backend1", "--weight", "1"]

    director.host.run(*as_user(STRANGER, *line, groups=group))

    row = director.client.get("/v1/audit", {"limit": 1})["items"][0]
    assert (row["author"], row["role"], row["outcome"]) == (STRANGER, "admin", "done")
    assert row["source"].startswith(f"uid {Account.of(STRANGER).uid}, ")


def test_root_takes_everything_back(lab: Lab, director: LabDirector) -> None:
    """When the configuration names no user any more."""
    before = director.configuration.read_text()
    director.stop()
    director.configuration.write_text(before.replace(f"user: {USER}\n", ""))
    director.start()
    owners = {
        Path(path).stat().st_uid for path in [*pins(director), director.paths.state, director.paths.run]
    }
    director.stop()
    director.configuration.write_text(before)
    director.start()

    assert owners == {0}
    assert int(status_of(director)["Uid"].split()[0]) == Account.of(USER).uid


def test_tokens_made_without_it_are_its_own(director: LabDirector) -> None:
    director.stop()
    made = command(director, "token", "add", "offline", "--role", "read")
    owners = {path.stat().st_uid for path in director.paths.access.parent.iterdir()}
    director.start()

    assert owners == {Account.of(USER).uid}
    assert "No daemon runs" in made.stderr
    assert [token["name"] for token in director.client.get("/v1/tokens")["items"]] == ["offline"]
    assert director.client.get("/v1/audit", {"operation": "create_token"})["items"][0]["author"] == "root"


def test_a_stranger_cannot_open_the_socket(director: LabDirector) -> None:
    os.seteuid(Account.of(STRANGER).uid)
    try:
        with pytest.raises(NotAllowedError, match="group"):
            director.client.get("/healthz")
    finally:
        os.seteuid(0)


def test_a_bpffs_that_is_closed_is_opened_for_passing_through(lab: Lab, director: LabDirector) -> None:
    """As systemd mounts it: mode 0700. In a mount namespace of its own, so that nobody else sees it."""
    director.stop()
    command(director, "unload")
    xdpdirector = " ".join(director.command[:-3])
    opened = " ".join(as_user(USER, sys.executable, "-c", f"'{OPEN_PINS}'"))
    script = (
        f"mount -t bpf -o mode=0700 bpf /sys/fs/bpf && {xdpdirector} load -c {director.configuration} && "
        f"stat -c %a /sys/fs/bpf && {opened} $(find {director.paths.pins} -type f); {xdpdirector} unload"
    )

    said = director.host.run("unshare", "--mount", "sh", "-c", script, timeout=180).stdout.splitlines()

    director.start()
    assert said[1] == "1711"
    assert int(said[2]) > 20


def everything(director: LabDirector) -> dict[str, tuple[object, ...]]:
    """Each file, directory and pin of the director's, and who may do what with it."""
    paths = director.paths
    roots = [paths.pins, paths.run, paths.layouts.parent, paths.state.parent]
    found = [path for root in roots for path in (root, *root.rglob("*"))]
    return {str(path): _kind(path) for path in found if not path.name.endswith(("-wal", "-shm"))}


def _kind(path: Path) -> tuple[object, ...]:
    status = path.lstat()
    if path.name == "arp.json":  # the daemon that runs writes it again when a VIP or an interface changes
        return status.st_mode, status.st_uid, status.st_gid
    content = path.read_bytes() if path.suffix == ".json" else b""
    return status.st_mode, status.st_uid, status.st_gid, status.st_ino, content


def other_sizes(director: LabDirector) -> Path:
    file = director.configuration.with_name("sizes.yaml")
    document = YAML().load(director.configuration)
    with file.open("w") as opened:
        YAML().dump({**document, "sizes": {"services": 19}}, opened)
    return file


def test_a_plan_changes_nothing(lab: Lab, director: LabDirector) -> None:
    """Other sizes: other maps and another program. The daemon goes on, explains, and can start again."""
    before, mounts = everything(director), Path("/proc/self/mountinfo").read_text()

    done = command(director, "load", "--plan", "--config", str(other_sizes(director)), check=False)

    assert (done.returncode, "kept" in done.stdout) == (1, True), done.stderr
    assert everything(director) == before
    assert Path("/proc/self/mountinfo").read_text() == mounts
    director.stop()
    director.start()
    assert director.client.get("/readyz")["problems"] == []
    assert everything(director).keys() == before.keys()


PLANT = """
import os, shutil, sys
run, victim = sys.argv[1:]
for name in ("layout.json", "layout.new", "layout.json.new", "layout-maps-0.json", "arp.json.new", "planted"):
    os.path.lexists(f"{run}/{name}") and os.unlink(f"{run}/{name}")
    os.symlink(victim, f"{run}/{name}")
for name in ("loader.lock", "arp.json"):
    os.path.lexists(f"{run}/{name}") and os.unlink(f"{run}/{name}")
os.mkfifo(f"{run}/arp.json")
os.symlink(victim, f"{run}/loader.lock")
"""


def test_root_is_not_led_by_what_the_user_plants(lab: Lab, director: LabDirector, tmp_path: Path) -> None:
    """Links in its run directory, dangling and not, while root loads, plans and unloads."""
    director.stop()
    run, config = director.paths.run, str(director.configuration)
    victims = [tmp_path / "dangling", tmp_path / "there"]
    for victim in victims:
        (tmp_path / "there").write_text("root's")
        director.host.run(*as_user(USER, sys.executable, "-c", PLANT, str(run), str(victim)))
        refused = command(director, "load", "--config", config, check=False)
        director.host.run(*as_user(USER, "rm", "-f", str(run / "loader.lock")))
        for verb in (["load", "--plan"], ["load", "--prepare"], ["load"]):
            command(director, *verb, "--config", config)

        assert refused.returncode != 0
        assert "loader.lock" in refused.stderr
        assert "symbolic link" in refused.stderr
        assert not victims[0].exists()
        assert ((tmp_path / "there").stat().st_uid, (tmp_path / "there").read_text()) == (0, "root's")
    command(director, "unload", "--vips")
    command(director, "load", "--config", config)
    director.host.run("sh", "-c", f"find {run} -type l -delete; rm -f {run}/arp.json")
    director.start()


def test_the_layout_is_roots(director: LabDirector) -> None:
    """The daemon's user cannot write where root reads what it does with the maps."""
    layout = director.paths.layout

    for attack in (
        f"echo x >{layout}",
        f"mv {layout.parent} {layout.parent}-away",
        f"rm -rf {layout.parents[1]}",
    ):
        done = director.host.run(*as_user(USER, "sh", "-c", attack), check=False)
        assert done.returncode != 0

    assert layout.stat().st_uid == 0
