# SPDX-License-Identifier: GPL-2.0-only
"""The eBPF sources (installed as xdpdirector.bpf)."""
