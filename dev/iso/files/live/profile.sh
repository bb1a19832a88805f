# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Sourced by the rescue shell.
if [ -t 1 ]; then
    printf '\nThis is the install CD of XDP Director. Nothing on the disks was changed. What it can do:\n\n'
    xdpdirector-rescue --help
fi
