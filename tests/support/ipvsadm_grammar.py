# SPDX-License-Identifier: Apache-2.0
"""Command lines for ipvsadm, made by chance from its grammar: a seed, and always the same ones.

They keep to what this director does, too: what it refuses is not in them, but for what ipvsadm refuses as well.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

MARKS = {
    "1": ["192.0.2.101:80/tcp", "192.0.2.101:443/tcp"],
    "7": ["192.0.2.102:53/udp", "192.0.2.102:53/tcp"],
    "4000000000": ["192.0.2.103:80/tcp", "[2001:db8::103]:80/tcp"],
}
PORT_VIP = "10.255.0.10"
RING_VIPS = ("192.0.2.10", PORT_VIP)
"""Of services with `sh` and `mh`; those of one always hash the port: this director changes no hash under flows."""
VIPS = ("192.0.2.11", "10.0.0.11", "198.51.100.200")
VIPS6 = ("2001:db8::11", "2001:db8:ffff::11")
SERVERS = ("192.0.2.21", "10.0.0.22", "172.16.255.23", "192.168.255.254")
SERVERS6 = ("2001:db8::21", "fd00::22")
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sed", "nq", "fo", "ovf")
PROTOCOLS = ("tcp", "tcp", "udp")
MISTAKES = (
    "",
    "-t 192.0.2.11:80",
    "-n -L",
    "-A",
    "-A -t 80",
    "-A -t 192.0.2.11",
    "-A -t 192.0.2.11:0",
    "-A -t 192.0.2.11:70000",
    "-A -t nowhere.invalid:80",
    "-A -t [2001:db8::11:80",
    "-A -t [192.0.2.11]:80",
    "-A -t 192.0.2.11:80 -o",
    "-A -t 192.0.2.11:80 -t 192.0.2.11:81",
    "-A -t 192.0.2.11:80 -u 192.0.2.11:81",
    "-A -t 192.0.2.11:80 -s nothing",
    "-A -t 192.0.2.11:80 -s rr -s wrr",
    "-A -t 192.0.2.11:80 -p 0",
    "-A -t 192.0.2.11:80 -p x",
    "-A -t 192.0.2.11:80 -p -M nothing.invalid",
    "-A -t 192.0.2.11:80 -b what",
    "-A -t 192.0.2.11:80 -b sh-port",
    "-A -t 192.0.2.11:80 -s sh -b mh-port",
    "-A -t 192.0.2.11:80 -w 1",
    "-A -t 192.0.2.11:80 -r 192.0.2.21",
    "-A -f 0",
    "-A -f -1",
    "-A -f x",
    "-A -f 4294967296",
    "-A -6 -f 1",
    "-D",
    "-D -t 192.0.2.11:80 -s rr",
    "-C -t 192.0.2.11:80",
    "-C more",
    "-a -t 192.0.2.11:80",
    "-a -r 192.0.2.21",
    "-a -t 192.0.2.11:80 -r 21",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -w -1",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -w 2147483648",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -w",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -x x",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -y 4294967296",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -g -g",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -g -m",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 --tun-type ipip",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -i --tun-type none",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -i --tun-type gue",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -i --tun-type gre --tun-port 5",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -i --tun-type gre --tun-csum --tun-nocsum",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -i --tun-port 5",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 --tun-port 0",
    "-a -t 192.0.2.11:80 -r 2001:db8::21",
    "-a -t 192.0.2.11:80 -r 192.0.2.21 -n",
    "-e -t 192.0.2.11:80 -r 192.0.2.21 -s rr",
    "-d -t 192.0.2.11:80 -r 192.0.2.21 -w 1",
    "-d -t 192.0.2.11:80 -r 192.0.2.21:8080",
    "-L -c -t 192.0.2.11:80",
    "-L --timeout --daemon",
    "-L -c --stats",
    "-L --timeout --persistent-conn",
    "-L --stats --timeout",
    "-L -s rr",
    "-L -n -n",
    "-L -Q",
    "-LnQ",
    "-L --nothing",
    "-L --nothing=1",
    "-L --numeric=1",
    "-L -t",
    "-L extra",
    "-L -A",
    "-LA",
    "-L -t 192.0.2.99:80",
    "-L -- extra",
    "-Z -n",
    "-Z -t 192.0.2.99:80",
    "-S -c",
    "-S -t 192.0.2.11:80",
    "-R more",
    "--set",
    "--set 1 2",
    "--set 1 2 x",
    "--set 1 2 3 4",
    "--start-daemon",
    "--start-daemon slave",
    "--stop-daemon both",
    "--start-daemon master --mcast-group 192.0.2.1",
    "--start-daemon master --mcast-group 2001:db8::1",
    "--start-daemon master --mcast-ttl 0",
    "--start-daemon master --mcast-port 0",
    "--start-daemon master --syncid 256",
    "--start-daemon master --sync-maxlen 65508",
    "--start-daemon master -n",
    "--what",
    "-q",
    "--add-service=1 -t 192.0.2.11:80",
)
"""What is wrong by itself, whatever there is."""


DIRECT = ([], ["-g"], ["--gatewaying"])
TUNNELS = (
    ["-i"],
    ["--ipip", "--tun-type", "ipip"],
    ["-i", "--tun-type", "gue", "--tun-port", "6080", "--tun-nocsum"],
)


class Grammar:
    """Sequences of commands. `ipv6`: with services over IPv6. `schedulers`: those without a ring. `protocols`: as
    often as they stand there. `methods`: options that say how packets are forwarded to a server."""

    def __init__(
        self,
        seed: int,
        *,
        ipv6: bool,
        methods: Sequence[list[str]] = DIRECT,
        schedulers: Sequence[str] = SCHEDULERS,
        protocols: Sequence[str] = PROTOCOLS,
    ) -> None:
        self._chance, self._ipv6 = random.Random(seed), ipv6
        self._schedulers, self._protocols, self._methods = schedulers, protocols, methods

    def commands(self, count: int) -> Iterator[list[str]]:
        """So many that change something; behind some of them, lists."""
        for _ in range(count):
            yield self._change()
            if self._chance.random() < 0.5:
                yield self._list()
        yield ["-S", "-n"]

    def _change(self) -> list[str]:
        kind = self._chance.choices(
            ("add", "edit", "delete", "server", "change", "remove", "set", "clear"),
            (30, 12, 6, 40, 20, 10, 3, 1),
        )[0]
        match kind:
            case "add" | "edit":
                ring = self._chance.random() < 0.2
                service = self._service(ring=ring)
                return [
                    self._one("add-service" if kind == "add" else "edit-service"),
                    *self._options(service, ring),
                ]
            case "delete":
                return [self._one("delete-service"), *self._service(ring=self._chance.random() < 0.2)]
            case "set":
                return ["--set", *(str(self._chance.choice((0, 1, 60, 900, 86400))) for _ in range(3))]
            case "clear":
                return [self._one("clear")]
        return self._of_server(
            {"server": "add-server", "change": "edit-server", "remove": "delete-server"}[kind]
        )

    def _one(self, long: str) -> str:
        """A command by its letter, or by its name."""
        letters = {
            "add-service": "A",
            "edit-service": "E",
            "delete-service": "D",
            "add-server": "a",
            "edit-server": "e",
            "delete-server": "d",
            "clear": "C",
        }
        return f"-{letters[long]}" if self._chance.random() < 0.8 else f"--{long}"

    def _service(self, *, ring: bool) -> list[str]:
        chance = self._chance
        if not ring and chance.random() < 0.15:
            mark = chance.choice((*MARKS, "7"))
            return [
                "-f",
                mark,
                *(["-6"] if self._ipv6 and mark == "4000000000" and chance.random() < 0.5 else []),
            ]
        vip = chance.choice(RING_VIPS if ring else VIPS + (VIPS6 if self._ipv6 else ()))
        protocol = chance.choice(self._protocols)
        port = chance.choice(("80", "443", "21", "0", "53", "domain", "8080"))
        shown = f"[{vip}]:{port}" if ":" in vip else f"{vip}:{port}"
        has_letter = chance.random() < 0.8 and protocol != "sctp"
        letter = f"-{protocol[0]}" if has_letter else f"--{protocol}-service"
        return [letter, shown]

    def _options(self, service: list[str], ring: bool) -> list[str]:
        chance, words = self._chance, [*service]
        scheduler = chance.choice(("sh", "mh")) if ring else chance.choice(self._schedulers)
        if ring or chance.random() < 0.7:
            words += chance.choice((["-s", scheduler], [f"-s{scheduler}"], [f"--scheduler={scheduler}"]))
        persistent = service[-1].endswith(":0") or chance.random() < 0.3
        if persistent:
            words += chance.choice((["-p"], ["-p", "600"], ["-p60"], ["--persistent=3600"], ["--persistent"]))
            words += self._mask("[" in service[-1] or "-6" in service)
        elif chance.random() < 0.3 and (service[0] in ("-u", "--udp-service") or "-f" in service):
            words.append(chance.choice(("-o", "--ops")))
        if ring and PORT_VIP in service[-1]:
            words += ["-b", f"{scheduler}-port" + chance.choice(("", f",{scheduler}-fallback"))]
        elif ring and chance.random() < 0.6:
            words += ["-b", f"{scheduler}-fallback"]
        elif not ring and chance.random() < 0.1:
            words += ["-b", chance.choice(("flag-1", "flag-3,flag-1", "flag-2"))]
        return words

    def _mask(self, ipv6: bool) -> list[str]:
        if self._chance.random() < 0.6:
            return []
        masks = ("64", "128", "48") if ipv6 else ("255.255.255.0", "255.255.255.255", "255.255.0.0")
        return ["-M", self._chance.choice(masks)]

    def _of_server(self, command: str) -> list[str]:
        chance = self._chance
        ring = chance.random() < 0.2
        service = self._service(ring=ring)
        ipv6 = "[" in service[-1] or "-6" in service
        server = chance.choice(SERVERS6 if ipv6 else SERVERS)
        if chance.random() < 0.2:
            port = service[-1].rpartition(":")[2] if "-t" in service or "-u" in service else "0"
            server = f"[{server}]:{port}" if ipv6 else f"{server}:{port}"
        words = [self._one(command), *service, chance.choice(("-r", "--real-server")), server]
        if command == "delete-server":
            return words
        words += chance.choice(self._methods)
        words += chance.choice(([], ["-w", "0"], ["-w", "5"], ["-w100"], ["--weight", "65535"]))
        if not ring and chance.random() < 0.2:
            words += ["-x", chance.choice(("0", "100", "2000"))]
            words += chance.choice(([], ["-y", "50"], ["-y", "5000"]))
        return words

    def _list(self) -> list[str]:
        chance = self._chance
        words = [chance.choice(("-L", "-l", "--list", "-Ln", "-ln"))]
        if "n" not in words[0][2:]:
            words.append(chance.choice(("-n", "--numeric")))
        words += chance.choice(
            (
                [],
                [],
                ["--stats"],
                ["--thresholds"],
                ["--persistent-conn"],
                ["--tun-info"],
                ["--stats", "--exact"],
            )
        )
        if chance.random() < 0.2:
            words += self._service(ring=chance.random() < 0.2)
        elif chance.random() < 0.1:
            words = [words[0], "--timeout"]
        return words
