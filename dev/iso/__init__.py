# SPDX-License-Identifier: Apache-2.0
"""The install CD: built from the packages, and tried in emulation. `medium` is what runs on it."""
