# SPDX-License-Identifier: Apache-2.0
"""Metrics: which there are, and how they are written for Prometheus. Must not know a route."""
