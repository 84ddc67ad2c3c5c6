"""How long a transfer waits and how much it holds."""

from __future__ import annotations

import os
from typing import NamedTuple

from ..base.config import conf

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

#: Positioned reads and writes are what lets several threads share a file.
SHARES_FILES = hasattr(os, "pwrite") and hasattr(os, "preadv")


class Limits(NamedTuple):
    """How long to wait and how much to hold."""

    #: Bytes per read.
    block: int = 1 << 20
    #: Fewer bytes than ``stall_bytes`` in ``stall_seconds`` cut a transfer.
    stall_bytes: int = 1024
    stall_seconds: float = 30.0
    #: Connections at once for one large object.
    width: int = 1


def configured(setting: Callable[[str], Any] = conf.__getattr__) -> Limits:
    """Return the limits that settings ask for, those of `conf` by default."""
    names = ("download_block_size", "stall_bytes", "stall_seconds", "connections")
    return Limits(*map(setting, names))
