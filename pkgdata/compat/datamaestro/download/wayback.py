"""What is gone, from the Wayback Machine."""

from __future__ import annotations

from ....catalog.resources.wayback import wayback_documents

__all__ = ["wayback_documents"]
