# SPDX-License-Identifier: Apache-2.0
"""A Containerfile, built without a container engine: its steps are run in a root that .ci/fresh-root makes.

Knows the instructions of contrib/container/Containerfile: FROM a release of Debian, RUN, COPY, ENV, WORKDIR,
ENTRYPOINT.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
PATIENCE = 900.0  # seconds for a step, on a busy machine


class Container:
    """What was built. `run` is its entry point, as an engine would start it."""

    def __init__(self, file: Path, context: Path, root: Path) -> None:
        self.root = root
        self._environment: dict[str, str] = {}
        self._directory = "/"
        for word, rest in instructions(file.read_text()):
            self._do(word, rest, context)

    def _do(self, word: str, rest: str, context: Path) -> None:
        match word:
            case "FROM":
                [self._release] = re.findall(r"/debian:(\w+)-slim$", rest)
            case "RUN":
                self.inside(["sh", "-ec", rest], check=True)
            case "COPY":
                pattern, place = rest.split()
                for path in context.glob(pattern):
                    shutil.copy(path, self.root / place.lstrip("/"))
            case "ENV":
                name, _, value = rest.partition("=")
                self._environment[name] = value
            case "WORKDIR":
                self._directory = rest
                (self.root / rest.lstrip("/")).mkdir(exist_ok=True)
            case "ENTRYPOINT":
                self._entry_point = list(json.loads(rest))
            case _:
                raise AssertionError(f"{word} is not known here")

    def inside(self, command: Sequence[str], *, check: bool = False) -> subprocess.CompletedProcess[str]:
        """As root of the root, with all capabilities and the machine's network."""
        fresh_root = [str(CHECKOUT / ".ci" / "fresh-root"), "--release", self._release, str(self.root)]
        done = subprocess.run(
            [*fresh_root, *command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
        assert not check or done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    def run(
        self, capabilities: set[str], *arguments: str, entry_point: Sequence[str] = ()
    ) -> subprocess.CompletedProcess[str]:
        """With these capabilities, a bpffs as a volume on /sys/fs/bpf, a /sys that cannot be written, and no
        network. The last line of its output says what is left on the bpffs."""
        names = ",".join(["-all", *(f"+{name}" for name in sorted(capabilities))])
        limited = ["setpriv", f"--inh-caps={names}", f"--bounding-set={names}", "--no-new-privs", "--"]
        assigned = [f"{name}={value}" for name, value in self._environment.items()]
        command = [*limited, "env", *assigned, *(entry_point or self._entry_point), *arguments]
        script = (
            "mount -o remount,ro,bind /sys && mount -t bpf bpf /sys/fs/bpf && "
            f"cd {shlex.quote(self._directory)} && status=0; unshare --net {shlex.join(command)} || status=$?; "
            "find /sys/fs/bpf -name 'replay*' | wc -l; exit $status"
        )
        return self.inside(["bash", "-c", script])


def instructions(text: str) -> list[tuple[str, str]]:
    """Words and what follows; lines that end with a backslash are one with the next."""
    lines = re.sub(r"\\\n", " ", re.sub(r"^#.*\n", "", text, flags=re.MULTILINE)).splitlines()
    return [(word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines if line)]
