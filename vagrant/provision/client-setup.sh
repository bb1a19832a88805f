# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=bash
# A client: nothing but curl. It knows no backend.
need curl
address6
