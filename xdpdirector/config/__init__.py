# SPDX-License-Identifier: Apache-2.0
"""A YAML text becomes the model, or sentences that say what is wrong, each with its line and column.

Must not know what runs or what is stored: imports the model alone, and reads nothing but the one file.
"""
