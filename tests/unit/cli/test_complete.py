# SPDX-License-Identifier: Apache-2.0
"""What a shell is offered: nothing that it would do more with than take it as a word."""

from typing import Any

import pytest

from xdpdirector.cli import complete

NAMES = [
    "web",
    "web; reboot",
    "web$(reboot)",
    "web`reboot`",
    "web\n",
    "web*",
    "web -x",
    "web|sh",
    "web\x1b[2J",
]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a daemon that is not honest."""
    backends = [{"name": name} for name in NAMES]
    items = [
        {"name": name, "backends": backends, "listeners": ["192.0.2.1:80/tcp", *NAMES]} for name in NAMES
    ]
    monkeypatch.setattr(complete, "_ask", lambda _context: items)


@pytest.mark.usefixtures("answer")
def test_only_plain_names_are_offered() -> None:
    context: Any = None

    assert complete.services(context, "") == ["web"]
    assert complete.backends(context, "w") == ["web/web"]
    assert set(complete.listeners(context, "")) == {"192.0.2.1:80/tcp", "web"}


class FakeClient:
    """Of a daemon that is not honest."""

    def get(self, path: str, *, timeout: float) -> dict[str, Any]:
        assert (path, timeout) == ("/v1/fleet", complete.PATIENCE)
        return {
            "name": "d1",
            "directors": [{"name": "d1"}, {"name": "d2"}, {"name": "d2; reboot"}],
            "leaving": [{"name": "e3"}],
        }


def test_directors_are_offered_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(complete, "_client", lambda _context: FakeClient())
    context: Any = None

    assert complete.directors(context, "") == ["d1", "d2", "e3"]
    assert complete.directors(context, "e") == ["e3"]
