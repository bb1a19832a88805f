# SPDX-License-Identifier: Apache-2.0
"""What may be asked for (specs) and what is reported (status): frozen pydantic types, and rules on values.

Must not know files, HTTP, maps or sockets: imports nothing of this project. What `service` has,
and the whole `configuration`, can be imported from here.
It is loaded when it is first asked for: a command that needs `listener` alone starts without pydantic.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xdpdirector.model.configuration import Configuration as Configuration
    from xdpdirector.model.configuration import Sizes as Sizes
    from xdpdirector.model.configuration import check_listeners as check_listeners
    from xdpdirector.model.service import Address as Address
    from xdpdirector.model.service import AdminState as AdminState
    from xdpdirector.model.service import BackendSpec as BackendSpec
    from xdpdirector.model.service import CheckSpec as CheckSpec
    from xdpdirector.model.service import Frozen as Frozen
    from xdpdirector.model.service import HostAddress as HostAddress
    from xdpdirector.model.service import Key as Key
    from xdpdirector.model.service import Listener as Listener
    from xdpdirector.model.service import ListenerField as ListenerField
    from xdpdirector.model.service import Name as Name
    from xdpdirector.model.service import Persistence as Persistence
    from xdpdirector.model.service import Scheduler as Scheduler
    from xdpdirector.model.service import ServiceSpec as ServiceSpec
    from xdpdirector.model.service import Timeout as Timeout
    from xdpdirector.model.service import Timeouts as Timeouts
    from xdpdirector.model.service import merged as merged


_OF_CONFIGURATION = ("Configuration", "Sizes", "check_listeners")
_OF_SERVICE = (
    *("Address", "AdminState", "BackendSpec", "CheckSpec", "Frozen", "HostAddress", "Key", "Listener"),
    *("ListenerField", "Name", "Persistence", "Scheduler", "ServiceSpec", "Timeout", "Timeouts", "merged"),
)
_MODULES = dict.fromkeys(_OF_SERVICE, "service") | dict.fromkeys(_OF_CONFIGURATION, "configuration")


def __getattr__(name: str) -> Any:
    if name not in _MODULES:  # a submodule, perhaps
        raise AttributeError(name)
    return getattr(import_module(f"xdpdirector.model.{_MODULES[name]}"), name)
