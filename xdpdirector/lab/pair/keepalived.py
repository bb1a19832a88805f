# SPDX-License-Identifier: Apache-2.0
"""keepalived on a director of the lab, with the configuration that `xdpdirector keepalived-config` writes."""

from __future__ import annotations

from collections.abc import Iterable

from xdpdirector.lab.host import Host
from xdpdirector.lab.host_daemon import HostDaemon

ROLE = "keepalived"


class Keepalived(HostDaemon):
    """One daemon; VRRP only. `stop` removes the VIPs, `kill` leaves them where they are."""

    def __init__(self, host: Host) -> None:
        super().__init__(host, ROLE)

    def start(self, configuration: str) -> None:
        file = self.write("keepalived.conf", configuration)
        for stale in self.directory.glob("*.pid"):
            stale.unlink()
        self.run(
            "keepalived", "--dont-fork", "--log-console", "--vrrp", f"--use-file={file}",
            f"--pid={self.directory}/main.pid", f"--vrrp_pid={self.directory}/vrrp.pid",
        )  # fmt: skip

    def children(self) -> Iterable[int]:
        return [int(each.read_text()) for each in self.directory.glob("vrrp.pid")]
