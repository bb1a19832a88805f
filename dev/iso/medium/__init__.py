# SPDX-License-Identifier: Apache-2.0
"""Runs on the install CD: `xdpdirector-install` and `xdpdirector-rescue`. It imports of `dev` nothing but itself,
and the director's package, which is installed there."""
