# SPDX-License-Identifier: Apache-2.0
"""What the dashboard is sent each second: snapshots, rates and their history, as JSON. Must not know a route."""
