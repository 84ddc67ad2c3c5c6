"""What is gone, from the Wayback Machine."""

from __future__ import annotations

from ....catalog.resources.files import wayback_documents as wayback_documents
