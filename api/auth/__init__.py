# SPDX-License-Identifier: Apache-2.0
"""Who asks, what that one may do and how often; and what is written into the audit. Must not know a route."""
