# SPDX-License-Identifier: Apache-2.0
"""The Debian packages: built from the checkout, and put through a life in a virtual machine."""
