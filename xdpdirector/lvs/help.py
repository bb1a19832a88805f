# SPDX-License-Identifier: Apache-2.0
"""What `ipvsadm -h` and `-v` say here."""

VERSION = "ipvsadm v1.31 2019/12/24 (compiled with popt and IPVS v1.2.1)"
"""As ipvsadm's, which scripts look at."""

HELP = f"""{VERSION}
This ipvsadm changes and shows the virtual services of XDP Director (xdpdirector ipvsadm).

Usage:
  {{program}} -A|E SERVICE [-s SCHEDULER] [-p [SECONDS]] [-M NETMASK] [-b FLAGS] [-o]
  {{program}} -D SERVICE
  {{program}} -a|e SERVICE -r SERVER [-g] [-w WEIGHT] [-x UPPER] [-y LOWER]
  {{program}} -d SERVICE -r SERVER
  {{program}} -L|l [SERVICE] [-n] [--stats|--rate] [--exact] [--thresholds] [--persistent-conn] [--nosort]
  {{program}} -L -c [-n]
  {{program}} -L --timeout
  {{program}} -Z [SERVICE]
  {{program}} -C
  {{program}} -S [-n]
  {{program}} -R
  {{program}} --set TCP TCPFIN UDP
  {{program}} -h

SERVICE is one of
  -t, --tcp-service HOST:PORT     -u, --udp-service HOST:PORT
  --sctp-service HOST:PORT
  -f, --fwmark-service MARK [-6]  what MARK stands for is in the configuration file: lvs.fwmarks

Commands, long and short:
  --add-service -A, --edit-service -E, --delete-service -D, --add-server -a, --edit-server -e, --delete-server -d,
  --list -L -l, --zero -Z, --clear -C, --save -S, --restore -R, --set, --help -h, --version -v

Options, long and short:
  --scheduler -s    rr, wrr, lc, wlc (unless another is given), sed, nq, sh, mh, fo, ovf, dh, lblc,
                    lblcr, twos
  --persistent -p   a client keeps its server; 360 seconds unless others are given
  --netmask -M      what is one client to persistence: a netmask, of IPv6 a prefix length
  --sched-flags -b  sh-fallback, sh-port, mh-fallback, mh-port
  --ops -o          each datagram is scheduled by itself
  --real-server -r  HOST; its port is that of the service
  --gatewaying -g   direct routing (default)
  --ipip -i         a tunnel: --tun-type ipip (default) or gue, with --tun-port and --tun-nocsum
  --weight -w       0 takes no new connections; 1 unless another is given
  --u-threshold -x, --l-threshold -y
                    connections at which a server takes no new ones, and under which it takes them again
  --numeric -n, --exact -X, --stats, --rate, --thresholds, --persistent-conn, --tun-info, --connection -c,
  --timeout, --daemon, --nosort, --sort
                    what is shown, and how

Not here, and refused: --masquerading -m, GRE and checksums of tunnels, --start-daemon, --stop-daemon,
--pe.
"""
