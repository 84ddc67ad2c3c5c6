"""What the user must get."""

from __future__ import annotations

from ....catalog.resources.byhand import manual
from ....catalog.resources.elsewhere import linkfile, linkfolder

__all__ = ["linkfile", "linkfolder", "manual"]
