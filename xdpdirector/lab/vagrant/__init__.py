# SPDX-License-Identifier: Apache-2.0
"""`xdpdirector lab vagrant`: the machines of vagrant/, brought up, put through their paces, destroyed."""
