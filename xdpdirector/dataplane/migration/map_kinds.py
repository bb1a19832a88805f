# SPDX-License-Identifier: Apache-2.0
"""Which maps there are, by how an upgrade carries them over."""

from __future__ import annotations

from xdpdirector import libbpf
from xdpdirector.dataplane.conntrack import TABLES

CONNECTIONS = set(TABLES)
BY_INDEX = {"services", "ring", "members", "backends", "loads", "tunnels", "fronts", "service_labels",
            "backend_labels", "limits", "paid", "departed"}  # fmt: skip
LISTS = {"members", "loads"}
"""Maps of BY_INDEX whose values are lists; their elements are numbered consecutively."""
BY_KEY = {"vips", "listeners4", "listeners6", "ranges4", "ranges6", "clients", "newcomers", "fragments", "senders",
          "denied4", "denied6", "sources", "openings", "quic_ids",
          "secondary_macs"}  # fmt: skip
COUNTERS = {"traffic", "denials", "refusals", "drops", "verdicts", "turned_away", "quic_counts", "passive"}
HASHES = {libbpf.MapType.HASH, libbpf.MapType.LRU_HASH}
"""Map types whose entries can be copied to one another."""
INTERFACES = {"ports"}
DERIVED = {"entrance", "owners"}
"""Maps derived from others: rebuilt, except for this machine's MACs."""
SCRATCH = {"stages", "asides", "explanations", "traces", "tellings", "drafts", "decisions", "allowances", "resets",
"probes", "reaping", "adopting", "merging", "merge_at", "syns"}  # fmt: skip
"""Working memory of programs; not migrated."""
