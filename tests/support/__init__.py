# SPDX-License-Identifier: Apache-2.0
"""Helpers and fakes of the tests: servers, clients, networks, a director without packets. No test."""
