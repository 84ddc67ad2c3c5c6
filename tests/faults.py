"""The server of `pkgdata.testing` under the name that the tests use: ``faults.cut(1000)``."""

from __future__ import annotations

from pkgdata.testing.faults import *  # noqa: F403
from pkgdata.testing.server import *  # noqa: F403
