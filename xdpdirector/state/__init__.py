# SPDX-License-Identifier: Apache-2.0
"""The desired state, pure: how it is edited, compared and merged with the file; drains, the deny list, revisions.

Must not know where it is stored (`storage`) or how it gets into the maps (`dataplane`).
"""
