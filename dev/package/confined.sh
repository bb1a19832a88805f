#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The program of an `exec` check: its backend is well if it answers, and if this program is confined as
# docs/security.md says. What it could do in spite of that is the check's reason.
set -u

can() { # WHAT COMMAND...
    what=$1
    shift
    if "$@" >/dev/null 2>&1; then
        echo "it can $what"
        exit 1
    fi
}

can "have capabilities" sh -c 'grep -E "^Cap(Inh|Prm|Eff|Amb)" /proc/self/status | grep -v "0000000000000000$"'
can "read the configuration" cat /etc/xdpdirector/director.yaml
can "list the databases" ls /var/lib/xdpdirector/default
can "ask the daemon" curl -s -m 20 --unix-socket /run/xdpdirector/default/api.sock http://director/healthz
can "write outside of /tmp" sh -c 'echo x >/var/tmp/confined'
curl -sS -m 20 -o /dev/null "http://$XDPDIRECTOR_ADDRESS:$XDPDIRECTOR_PORT/"
