# SPDX-License-Identifier: Apache-2.0
"""The endpoints, a module for each resource: HTTP in, a call of the director, a view out. Decides nothing."""
