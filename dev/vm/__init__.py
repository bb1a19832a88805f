# SPDX-License-Identifier: Apache-2.0
"""A virtual machine with Debian's own kernel, in software emulation: built, booted, used and thrown away."""
