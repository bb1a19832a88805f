# SPDX-License-Identifier: Apache-2.0
"""Programs of exec checks run only when the configuration file names them."""

from pathlib import Path

import pytest

from tests.support.stage import (
    HOSTS,
    ME,
    Stage,
    service,
    story,
)
from xdpdirector.config import config_file
from xdpdirector.errors import ConfigurationError, InvalidRequestError

PROGRAM = "/usr/local/lib/check"
EXEC = {"type": "exec", "command": [PROGRAM, "web"]}
REFUSED = (
    f"check of service 'web': the program '{PROGRAM}' may not be run by a check: add it to checks.allow_exec "
    "in the configuration file, and restart the daemon"
)


def file(path: Path, head: str) -> Path:
    path.write_text(
        f"{head}\ninterfaces: [eth0]\nservices:\n  web:\n    listeners: ['192.0.2.10:80/tcp']\n"
        f"    check: {{type: exec, command: [{PROGRAM}, web]}}\n"
        f"    backends: {{web1: {{address: {HOSTS['web1']}}}}}\n"
    )
    return path


def test_the_file_may_allow_it(tmp_path: Path) -> None:
    loaded = config_file.load(file(tmp_path / "d.yaml", f"checks: {{allow_exec: [{PROGRAM}]}}"))

    assert loaded.checks.allow_exec == (PROGRAM,)


def test_the_file_must_allow_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"may not be run by a check"):
        config_file.load(file(tmp_path / "d.yaml", ""))


@story
async def test_nobody_else_can_allow_it() -> None:
    async with Stage(web=service("web1")) as stage:
        with pytest.raises(InvalidRequestError) as refused:
            await stage.director.patch_service("web", {"check": EXEC}, intent=ME)

        assert refused.value.detail == REFUSED
        assert refused.value.pointer == "/check/command/0"
        assert stage.director.service("web").check is None
