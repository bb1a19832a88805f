# SPDX-License-Identifier: Apache-2.0
"""Services as keepalived.conf says them, for the way back. What it cannot say is listed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from xdpdirector.lvs import documents
from xdpdirector.lvs.documents import Document, Marks
from xdpdirector.lvs.virtual import Destination, Virtual

CHECKERS = {
    "tcp": "TCP_CHECK",
    "icmp": "PING_CHECK",
    "smtp": "SMTP_CHECK",
    "dns": "DNS_CHECK",
    "exec": "MISC_CHECK",
}
CHECKERS |= {"udp": "UDP_CHECK", "http": "HTTP_GET", "https": "SSL_GET"}


def keepalived(configuration: Document) -> tuple[str, list[str]]:
    """The text, and what it does not say."""
    marks = Marks((configuration.get("lvs") or {}).get("fwmarks") or {})
    lines: list[str] = []
    without: list[str] = []
    for name, document in (configuration.get("services") or {}).items():
        found = documents.keys_of(document, marks)
        without += [f"{each} of '{name}': IPVS has no form for it" for each in found.without]
        if len(found.keys) > 1:
            without.append(f"'{name}': its {len(found.keys)} listeners share persistence here only")
        without += _unsaid(name, document)
        for key in found.keys:
            virtual = documents.virtual_of(name, document, key)
            lines += [f"# {name}", *_virtual_server(virtual, document), ""]
    return "".join(f"{line}\n" for line in lines), without


def _unsaid(name: str, document: Document) -> Iterator[str]:
    for key in ("limit", "slow_start", "passive"):
        if document.get(key):
            yield f"'{name}': {key}"
    check = document.get("check")
    if check and check["type"] not in CHECKERS:
        yield f"'{name}': a check of type {check['type']}; it became TCP_CHECK"


def _virtual_server(virtual: Virtual, document: Document) -> Iterator[str]:
    key = virtual.key
    where = f"fwmark {key.fwmark}" if key.fwmark else f"{key.address} {key.port}"
    check: Mapping[str, Any] = document.get("check") or {}
    yield f"virtual_server {where} {{"
    if check:
        yield f"    delay_loop {documents.seconds(check.get('interval', 2)):g}"
    yield f"    lvs_sched {virtual.scheduler}"
    yield from (f"    {flag}" for flag in virtual.flags)
    forwards = sorted({each.forward for each in virtual.destinations} or {"direct"})
    usual = forwards[0]
    yield f"    lvs_method {_method(usual, documents.tunnel_port_of(document))}"
    if virtual.timeout:
        yield f"    persistence_timeout {virtual.timeout}"
        yield from ([f"    persistence_granularity {virtual.netmask}"] if virtual.netmask else [])
    if virtual.one_packet:
        yield "    ops"
    if key.fwmark:
        yield f"    ip_family {'inet6' if key.is_ipv6 else 'inet'}"
    else:
        yield f"    protocol {key.protocol.upper()}"
    fallback = document.get("fallback")
    for each in virtual.destinations:
        if each.key[1] == fallback:
            yield f"    sorry_server {each.address} {each.port}"
    for each in virtual.destinations:
        if each.key[1] != fallback:
            yield from (f"    {line}" for line in _real_server(each, check, usual))
    yield "}"


def _method(forward: str, port: int) -> str:
    return {"direct": "DR", "ipip": "TUN"}.get(forward, f"TUN type gue port {port} nocsum")


def _real_server(each: Destination, check: Mapping[str, Any], usual: str) -> Iterator[str]:
    yield f"real_server {each.address} {each.port} {{"
    yield f"    weight {each.weight}"
    if each.forward != usual:
        yield f"    lvs_method {_method(each.forward, each.tunnel_port)}"
    if each.upper:
        yield f"    uthreshold {each.upper}"
    if each.lower:
        yield f"    lthreshold {each.lower}"
    if check:
        yield f"    {CHECKERS.get(check['type'], 'TCP_CHECK')} {{"
        yield from (f"        {line}" for line in _check(check))
        yield "    }"
    yield "}"


def _check(check: Mapping[str, Any]) -> Iterator[str]:
    kind = check["type"]
    if kind == "exec":
        yield f'misc_path "{" ".join(check["command"])}"'
        yield f"misc_timeout {documents.seconds(check.get('timeout', 1)):g}"
    else:
        yield f"connect_timeout {documents.seconds(check.get('timeout', 1)):g}"
    if check.get("port"):
        yield f"connect_port {check['port']}"
    yield f"retry {max(0, int(check.get('fall', 3)) - 1)}"
    if kind in ("http", "https"):
        yield "url {"
        yield f"    path {check.get('path', '/')}"
        yield f"    status_code {' '.join(map(str, check.get('status', [200])))}"
        if check.get("host"):
            yield f"    virtualhost {check['host']}"
        if check.get("body"):
            yield f'    regex "{check["body"]}"'
        yield "}"
    elif kind == "dns":
        yield f"type {check.get('query', 'A')}"
        yield f"name {check['name']}"
    elif kind == "smtp" and check.get("hello"):
        yield f"helo_name {check['hello']}"
    elif kind == "udp":
        yield from ([f"payload {check['send_hex']}"] if check.get("send_hex") else [])
        yield from (["require_reply"] if check.get("expect") else [])
