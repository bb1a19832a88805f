# SPDX-License-Identifier: Apache-2.0
"""The services matrix: real servers behind a director, their usual clients, and what those saw.

A service is one file that says how its server is configured and run and what its clients do; `matrix` puts each
through the same: both address families, two ports, a drain and a loss in the middle of a session.
"""
