# SPDX-License-Identifier: Apache-2.0
"""`./lab vagrant`: the machines of vagrant/, brought up, put through their paces, destroyed."""
