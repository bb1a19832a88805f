# SPDX-License-Identifier: Apache-2.0
"""The daemon as a user of its own: what it may, what it cannot, and whom its files keep out."""

import contextlib
import grp
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.support.lab_client import Conversation, answering
from tests.support.lab_director import (
    CHECK,
    MARGIN,
    becomes,
    command,
    directing,
    require_open_checkout,
    view,
)
from xdpdirector.client import backend_path, service_path
from xdpdirector.errors import DirectorError, NotAllowedError
from xdpdirector.lab import Lab
from xdpdirector.lab.configuration import SERVICE, web_configuration
from xdpdirector.lab.director import READY_WITHIN, LabDirector
from xdpdirector.lab.topology import VIP4, VIP6
from xdpdirector.lab.waiting import wait_until
from xdpdirector.system.privileges import DAEMON, Account

pytestmark = pytest.mark.root

USER = "games"
"""On every Debian, and otherwise idle."""
STRANGER = "nobody"
OTHER_VIP = "192.0.2.11"
NOT_ALLOWED = 6
NET_ADMIN, NET_RAW = 1 << 12, 1 << 13
CAPABILITIES = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in DAEMON)])


@pytest.fixture(scope="module")
def lab(lab_factory: Callable[..., Lab]) -> Lab:
    require_open_checkout()
    lab = lab_factory(backends=2)
    for host in lab.backends:
        lab.nginx(host.name)
    return lab


@pytest.fixture(scope="module")
def director(lab: Lab) -> Iterator[LabDirector]:
    """Started by root, as the user that its configuration names."""
    with directing(
        lab, web_configuration(lab.topology.backend_nodes, check=CHECK) | {"user": USER}
    ) as director:
        yield director


def warns_of_nothing(director: LabDirector) -> None:
    """That another helper of the checks serves now is noted for a while."""
    wait_until(lambda: director.client.get("/readyz")["warnings"] == [], "nothing is warned of", 20.0)


def as_user(user: str, *arguments: str, groups: str = "", capabilities: str = "-all") -> list[str]:
    """The front of a command line that makes it another user's."""
    account = Account.of(user)
    return [
        "setpriv",
        f"--reuid={account.uid}",
        f"--regid={account.gid}",
        f"--groups={groups}" if groups else "--clear-groups",
        f"--inh-caps={capabilities}",
        f"--ambient-caps={capabilities}",
        f"--bounding-set={capabilities}",
        "--no-new-privs",
        "--",
        *arguments,
    ]


def status_of(director: LabDirector) -> dict[str, str]:
    lines = Path(f"/proc/{director.pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def children(pid: int | None) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(process: int) -> bool:
    """Where process 1 reaps nobody, an orphan that ended stays a zombie."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return ") Z " not in Path(f"/proc/{process}/stat").read_text()
    return False


def test_it_has_two_capabilities_and_no_way_to_others(director: LabDirector) -> None:
    status, account = status_of(director), Account.of(USER)

    assert {status[each].split()[0] for each in ("Uid", "Gid")} == {str(account.uid), str(account.gid)}
    assert {int(status[f"Cap{each}"], 16) for each in ("Prm", "Eff", "Bnd", "Amb")} == {NET_ADMIN | NET_RAW}
    assert status["NoNewPrivs"] == "1"


def test_a_full_life(lab: Lab, director: LabDirector) -> None:
    """A change, a VIP, a death, an explanation, a drain and a restart, under a running connection."""
    client, program = director.client, lab.director_host.xdp_program()
    with Conversation(lab.client, VIP4) as conversation:
        client.post(
            "/v1/services",
            {
                "name": "other",
                "listeners": [f"{OTHER_VIP}:80/tcp"],
                "backends": {"backend1": {"address": view(director, "backend1")["address"]}},
            },
        )
        explained = client.post(
            "/v1/explain",
            {"client": "192.0.2.100", "client_port": 40000, "vip": str(VIP4), "port": 80, "protocol": "tcp"},
        )
        lab.host("backend2").link_down()
        becomes(director, "backend2", "down")
        lab.host("backend2").link_up()
        becomes(director, "backend2", "up")
        client.post(f"{backend_path(SERVICE, 'backend2')}/drain")
        director.stop()
        director.start()

        assert explained["backend"] in ("backend1", "backend2")
        assert f" {OTHER_VIP}/32 " in lab.director_host.run("ip", "-brief", "address").stdout
        assert lab.director_host.xdp_program() == program
        assert view(director, "backend2")["admin"] == "drain"
        assert conversation.who() == conversation.backend
    client.post(f"{backend_path(SERVICE, 'backend2')}/enable")
    client.delete(service_path("other"))
    assert {answering(lab.client, vip) for vip in (VIP4, VIP6) for _ in range(4)} == {"backend1", "backend2"}


def test_it_is_adopted_without_root_at_all(lab: Lab, director: LabDirector) -> None:
    """As systemd starts it, with User= and AmbientCapabilities=."""
    program = lab.director_host.xdp_program()
    director.stop()

    child = lab.director_host.popen(
        *as_user(USER, *director.command, capabilities=CAPABILITIES), role="unprivileged"
    )
    try:
        wait_until(lambda: director.ready, "the director is ready", READY_WITHIN)
        client = director.client
        client.patch(backend_path(SERVICE, "backend1"), {"weight": 3})
        wait_until(lambda: client.get("/readyz")["warnings"], "it tells what it cannot see")
        warning = client.get("/readyz")["warnings"][0]

        assert "let root start the daemon" in warning
        assert lab.director_host.xdp_program() == program
        assert answering(lab.client, VIP4)
    finally:
        child.terminate()
        child.wait(timeout=10)
        director.start()
    assert client.patch(backend_path(SERVICE, "backend1"), {"weight": 1})["weight"] == 1


def test_checks_see_a_vip_that_a_server_has_lost(lab: Lab, director: LabDirector) -> None:
    """Over the checks' namespace, which the daemon's user could not make."""
    victim = lab.host("backend2")
    victim.run("ip", "address", "del", f"{VIP4}/32", "dev", "lo")
    becomes(director, "backend2", "partial")  # its other VIP is there
    reason = view(director, "backend2")["reason"]
    victim.run("ip", "address", "add", f"{VIP4}/32", "dev", "lo")
    becomes(director, "backend2", "up")

    assert f"the VIP {VIP4}" in reason
    warns_of_nothing(director)


def test_programs_that_check_have_no_capability_and_the_socket_a_group(
    lab: Lab, director: LabDirector
) -> None:
    """The daemon's user is not in that group: root gives it along."""
    before = director.configuration.read_text()
    nothing = f"{0:016x}"
    script = (
        f"grep -q 'CapEff:.*{nothing}' /proc/self/status && grep -q 'CapPrm:.*{nothing}' /proc/self/status"
    )
    check = {"type": "exec", "command": ["/bin/sh", "-c", script], "interval": "1s", "timeout": "1s"}
    service = {
        "listeners": [f"{VIP4}:81/tcp"],
        "check": {**check, "rise": 1},
        "backends": {"backend1": {"address": view(director, "backend1")["address"]}},
    }
    director.stop()
    options = "checks: {allow_exec: [/bin/sh]}\napi: {group: audio}\n"
    director.configuration.write_text(before + options)
    director.start()

    director.client.post("/v1/services", {"name": "checked", **service})

    becomes(director, "backend1", "up", service="checked")
    socket = director.paths.socket.stat()
    assert (oct(socket.st_mode)[-3:], socket.st_gid) == ("660", grp.getgrnam("audio").gr_gid)
    director.client.delete(service_path("checked"))
    director.stop()
    director.configuration.write_text(before)
    director.start()


@pytest.mark.smoke
def test_who_gives_sockets_ends_with_the_daemon(director: LabDirector) -> None:
    (giver,) = children(director.pid)
    status = Path(f"/proc/{giver}/status").read_text()
    director.kill()

    wait_until(lambda: not is_alive(giver), "the giver is gone")
    director.start()
    becomes(director, "backend1", "up")

    assert f"CapPrm:\t{NET_ADMIN:016x}" in status
    assert f"Uid:\t{Account.of(USER).uid}\t" in status


def test_who_gives_sockets_may_end_or_stall(lab: Lab, director: LabDirector) -> None:
    """No verdict falls by that, and checks go on: each time a server that ends is noticed."""
    becomes(director, "backend1", "up")
    since = view(director, "backend1")["since"]
    (keeper,) = children(director.pid)
    for victim, signals in (
        ("who serves", signal.SIGKILL),
        ("who serves", signal.SIGSTOP),
        ("who waits", signal.SIGSTOP),
        ("who waits", signal.SIGCONT),
        ("who waits", signal.SIGKILL),
    ):
        wait_until(lambda: len(children(keeper)) == 1, "somebody serves")
        os.kill(children(keeper)[0] if victim == "who serves" else keeper, signals)
        lab.nginx("backend2").stop()
        becomes(director, "backend2", "down")
        lab.nginx("backend2").start()
        becomes(director, "backend2", "up")

    assert view(director, "backend1")["since"] == since
    warns_of_nothing(director)
    director.stop()
    director.start()


def test_without_anybody_who_gives_sockets_verdicts_stay_and_it_is_said(director: LabDirector) -> None:
    for name in ("backend1", "backend2"):
        becomes(director, name, "up")
    since = [view(director, name)["since"] for name in ("backend1", "backend2")]
    (keeper,) = children(director.pid)
    os.kill(keeper, signal.SIGSTOP)  # so that it starts nobody
    (serving,) = children(keeper)
    os.kill(serving, signal.SIGKILL)
    os.kill(keeper, signal.SIGKILL)

    wait_until(lambda: warned(director, "restart the daemon"), "it is said")
    wait_until(lambda: not director.ready, "a director that sees nothing is not ready", 10 + MARGIN)
    assert [view(director, name)["since"] for name in ("backend1", "backend2")] == since
    assert "xdpdirector_check_impossible_total" in director.client.text("/metrics", "text/plain")[0]
    director.stop()
    director.start()
    wait_until(lambda: director.ready, "it is ready again")


def warned(director: LabDirector, words: str) -> bool:
    with contextlib.suppress(DirectorError):
        return any(words in warning for warning in director.client.get("/readyz")["warnings"])
    return False


def test_a_program_that_somebody_takes_off_is_put_back(lab: Lab, director: LabDirector) -> None:
    lab.director_host.run("ip", "link", "set", "dev", "eth0", "xdp", "off")

    wait_until(lambda: lab.director_host.xdp_program(), "the program is back", 5 + MARGIN)

    assert director.ready


@pytest.mark.parametrize(
    ("capabilities", "missing"),
    [("-all", "CAP_NET_ADMIN and CAP_NET_RAW"), ("-all,+net_admin", "privileges, CAP_NET_RAW:")],
    ids=["none", "not all"],
)
def test_without_its_capabilities_it_says_what_is_missing(
    director: LabDirector, capabilities: str, missing: str
) -> None:
    done = director.host.run(
        *as_user(USER, *director.command, capabilities=capabilities), check=False, timeout=30
    )

    assert done.returncode == NOT_ALLOWED
    assert missing in done.stderr
    assert "AmbientCapabilities" in done.stderr


def test_it_loads_nothing_and_says_who_must(lab: Lab, director: LabDirector) -> None:
    """A configuration of other sizes needs other maps."""
    director.stop()
    other = director.configuration.with_name("other.yaml")
    document = YAML().load(director.configuration)
    with other.open("w") as file:
        YAML().dump({**document, "sizes": {"services": 17}}, file)
    line = [*director.command[:-1], str(other)]

    done = director.host.run(*as_user(USER, *line, capabilities=CAPABILITIES), check=False)
    director.start()

    assert done.returncode == NOT_ALLOWED
    assert "run `xdpdirector load` as root" in done.stderr


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


def test_a_user_that_does_not_exist_is_named(director: LabDirector) -> None:
    other = director.configuration.with_name("nobody.yaml")
    other.write_text(director.configuration.read_text().replace(f"user: {USER}", "user: no-such-user"))

    done = director.host.run(*director.command[:-1], str(other), check=False)

    assert done.returncode == 2
    assert "useradd --system" in done.stderr


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
