# SPDX-License-Identifier: Apache-2.0
"""HTTP, HTTPS and HTTP/2: nginx and curl. Names come from the content."""

from __future__ import annotations

import re

from xdpdirector.lab.host import Host
from xdpdirector.lab.servers import Server
from xdpdirector.lab.services.fixtures import Stock
from xdpdirector.lab.services.process import Program
from xdpdirector.lab.services.service_def import (
    BACKEND,
    Client,
    Kind,
    Script,
    authority,
)
from xdpdirector.model import Address

_LINES, _LINE = 6000, 1000  # of the file /long, whose every line ends with the backend's name
_NGINX = """\
user root;
worker_processes 1;
daemon off;
pid {directory}/pid;
error_log {directory}/error.log;
events {{ worker_connections 512; }}
http {{
  access_log off;
  default_type text/plain;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  ssl_certificate {certificate};
  ssl_certificate_key {key};
  server {{
    listen 80; listen [::]:80;
    listen 443 ssl http2; listen [::]:443 ssl http2;
    root {directory};
    location = /who {{ return 200 "{name}\\n"; }}
    location = /healthz {{ return 200 "ok\\n"; }}
  }}
}}
"""


def kind(stock: Stock) -> Kind:
    def server(host: Host) -> Server:
        directory = host.directory("web")
        (directory / "long").write_text(_LINES * f"{host.name:>{_LINE}}\n")
        configuration = directory / "nginx.conf"
        configuration.write_text(
            _NGINX.format(directory=directory, name=host.name, certificate=stock.certificate, key=stock.key)
        )
        command = ["nginx", "-e", str(directory / "error.log"), "-c", str(configuration)]
        return Program(host, "web", command, tcp=(80, 443), package="nginx")

    def client(name: str, scheme: str, *options: str, version: str) -> Client:
        command = ("curl", "--silent", "--show-error", "--fail", "--cacert", str(stock.certificate), *options)

        def visit(vip: Address) -> Script:
            """The version of HTTP that was spoken is part of the answer."""
            shown = ("--max-time", "10", "--write-out", "%{http_version}")
            url = f"{scheme}://{authority(vip)}/who"
            return Script((*command, *shown, url), re.compile(rf"^{BACKEND}\n{version}$"))

        def stay(vip: Address) -> Script:
            """A download: it stands still while it is not read."""
            url = f"{scheme}://{authority(vip)}/long"
            return Script((*command, "--no-buffer", url), re.compile(rf"^ +{BACKEND}\n", re.MULTILINE))

        return Client(name, "curl", visit, stay)

    return Kind(
        name="web",
        ports=("80/tcp", "443/tcp"),
        check={"type": "http", "path": "/healthz", "port": 80},
        server=server,
        clients=(
            client("HTTP", "http", "--http1.1", version="1.1"),
            client("HTTPS", "https", "--http1.1", version="1.1"),
            client("HTTP/2", "https", "--http2", version="2"),
        ),
    )
