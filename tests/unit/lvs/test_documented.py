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

# What there is, by the manuals of ipvsadm 1.31 and keepalived 2.2.7 (virtual_server_group, virtual_server, SSL),
# and by manual and source of ldirectord 4.12.
OF_IPVSADM = """
add-server add-service clear connection daemon delete-server delete-service edit-server edit-service exact
fwmark-service gatewaying help ipip ipv6 l-threshold list masquerading mcast-group mcast-interface mcast-port
mcast-ttl netmask nosort numeric ops pe persistent persistent-conn rate real-server restore save sched-flags
scheduler sctp-service set sort start-daemon stats stop-daemon sync-maxlen syncid tcp-service thresholds
timeout tun-csum tun-info tun-nocsum tun-port tun-remcsum tun-type u-threshold udp-service weight zero
"""
OF_KEEPALIVED = """
BFD_CHECK DNS_CHECK FILE_CHECK HTTP_GET MISC_CHECK PING_CHECK SMTP_CHECK SSL SSL_GET TCP_CHECK UDP_CHECK alpha
bind_if bind_port bindto ca certificate connect_ip connect_port connect_timeout delay_before_retry delay_loop
digest dynamic enable_sni fast_recovery flag-1 flag-2 flag-3 fwmark group ha_suspend helo_name http_protocol
hysteresis inhibit_on_failure ip_family key log_all_failures lthreshold lvs_method lvs_sched max_reply_length
mh-fallback mh-port min_reply_length misc_dynamic misc_path misc_timeout name notify_down notify_up omega ops
password path payload persistence_engine persistence_granularity persistence_timeout protocol quorum
quorum_down quorum_up real_server regex regex_max_offset regex_min_offset regex_no_match regex_options
regex_stack require_reply retry sh-fallback sh-port smtp_alert snmp_name sorry_server sorry_server_inhibit
sorry_server_lvs_method status_code track_file type uthreshold url user virtual_server virtualhost warmup
weight
"""
OF_LDIRECTORD = """
autoreload callback checkcommand checkcount checkinterval checkport checktimeout checktype cleanstop comment
connecttimeout database emailalert emailalertfreq emailalertfrom emailalertstatus execute failurecount
fallback fallbackcommand fork httpmethod load logfile login maintenancedir monitorfile negotiatetimeout
netmask ops passwd persistent protocol quiescent readdquiescent real receive request schedflags scheduler
secret service servicename smtp supervised virtual virtualhost
"""


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


def test_nothing_of_the_manuals_is_missing() -> None:
    assert {*OF_IPVSADM.split()} <= IPVSADM.keys()
    assert {*OF_KEEPALIVED.split()} <= WORDS
    assert {*OF_LDIRECTORD.split()} <= WORDS
    assert {*OF_LDIRECTORD.split()} - {"virtual"} <= LDIRECTORD
