# SPDX-License-Identifier: Apache-2.0
"""A configuration file judged without a daemon: what `xdpdirector config check` refuses, found in the file."""

from __future__ import annotations

from xdpdirector.api.server import tls
from xdpdirector.config import config_file
from xdpdirector.config.json_pointer import parts_of, pointer
from xdpdirector.config.yaml_document import Document
from xdpdirector.control import config_check
from xdpdirector.errors import ConfigurationError


def require(file: Document) -> None:
    """ConfigurationError for all that is wrong with it, a line each."""
    configuration = config_file.understood(file)
    faults = list(config_check.refusals(configuration))
    if configuration.api.tls:
        try:
            tls.context(configuration.api.tls)
        except ConfigurationError as error:
            faults.append((error.detail, pointer("api", "tls")))
    placed = sorted((file.place(parts_of(where, file.data)), text) for text, where in faults)
    if not placed:
        return
    (line, column), first = placed[0]
    others = (f"{file.source}:{row}:{position}: {text}" for (row, position), text in placed[1:])
    raise ConfigurationError("\n".join([first, *others]), source=file.source, line=line, column=column)
