# SPDX-License-Identifier: Apache-2.0
"""docs/from-lvs.md says of each option and keyword what it becomes here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from xdpdirector.lvs import keepalived, keepalived_checks, ldirectord, rules

PAGE = Path(__file__).parents[3] / "docs" / "from-lvs.md"
TEXT = re.sub("```.*?```", "", PAGE.read_text(), flags=re.DOTALL)
WORDS = set(re.findall(r"[A-Za-z0-9_-]+", " ".join(re.findall(r"`([^`]+)`", TEXT))))
IPVSADM = rules.COMMANDS | rules.TAKING | rules.PLAIN
ASIDE = {"help", "version", "ipv6", "sched-flags", "connection"}
"""What says itself, or stands there by its letter."""
KEEPALIVED = {*keepalived.WHY, *keepalived.FLAGS[4:], *keepalived_checks.CHECKERS, *keepalived_checks.USED}
LDIRECTORD = {*ldirectord.WHY, *ldirectord.TAKEN}


@pytest.mark.parametrize("name", sorted(IPVSADM))
def test_options_of_ipvsadm(name: str) -> None:
    letter = IPVSADM[name]
    tunnel = name.startswith(("tun-", "mcast-", "sync"))  # "and the options of tunnels", "and their options"

    assert {f"-{letter}", f"--{name}"} & WORDS or tunnel or name in ASIDE


@pytest.mark.parametrize("keyword", sorted(KEEPALIVED))
def test_keywords_of_keepalived(keyword: str) -> None:
    assert keyword in WORDS


@pytest.mark.parametrize("key", sorted(LDIRECTORD))
def test_keys_of_ldirectord(key: str) -> None:
    assert key in WORDS
