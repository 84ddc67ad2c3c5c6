"""For authors who test their own code: a server that goes wrong on request, and keys for CI caches.

Names are loaded when they are first used: every pytest run imports the plugin in this package.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import faults as faults
    from .keys import ci_key as ci_key
    from .server import Fault as Fault
    from .server import FaultServer as FaultServer
    from .server import Folder as Folder
    from .server import Reply as Reply
    from .server import Request as Request

_HOMES = {
    "Fault": "server",
    "FaultServer": "server",
    "Folder": "server",
    "Reply": "server",
    "Request": "server",
    "ci_key": "keys",
}

__all__ = ["Fault", "FaultServer", "Folder", "Reply", "Request", "ci_key", "faults"]


def __getattr__(name: str) -> object:
    import importlib

    if name == "faults":
        return importlib.import_module(f"{__name__}.faults")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
