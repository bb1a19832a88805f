# SPDX-License-Identifier: Apache-2.0
"""Carries what is in the maps over to a program with another layout of maps. Knows no services, and not when
programs are attached.
"""
