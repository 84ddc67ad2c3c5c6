"""What the user must get."""

from __future__ import annotations

from ....catalog.resources.elsewhere import linkfile as linkfile
from ....catalog.resources.elsewhere import linkfolder as linkfolder
from ....catalog.resources.elsewhere import manual as manual
