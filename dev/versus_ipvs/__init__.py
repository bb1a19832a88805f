# SPDX-License-Identifier: Apache-2.0
"""The director and kernel IPVS side by side: instructions for each packet, in one emulated machine."""
