# SPDX-License-Identifier: Apache-2.0
"""HTTP itself: bodies, conditions, pages of lists, errors. Must not know a route, or who asks."""
