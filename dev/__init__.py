# SPDX-License-Identifier: Apache-2.0
"""What only builds, measures and proves this project; it is not installed. `./lab VERB` runs it."""
