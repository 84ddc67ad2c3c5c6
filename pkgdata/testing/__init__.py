"""For authors who test their own code: a server that goes wrong on request, and keys for CI caches.

The pytest plugin builds on this package; nothing here needs pytest.
"""

from __future__ import annotations

from . import faults
from .keys import ci_key
from .server import Fault, FaultServer, Folder, Reply, Request

__all__ = ["Fault", "FaultServer", "Folder", "Reply", "Request", "ci_key", "faults"]
