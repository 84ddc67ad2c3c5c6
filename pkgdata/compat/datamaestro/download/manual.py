"""What the user must get."""

from __future__ import annotations

from ....catalog.resources.elsewhere import linkfile, linkfolder, manual

__all__ = ["linkfile", "linkfolder", "manual"]
