"""astropy's names on pkgdata's engine: ``import pkgdata.compat.astropy as data``.

The same names as ``import pkgdata``, for code written for ``astropy.utils.data``.
"""

from __future__ import annotations

import pkgdata
from pkgdata import __all__


def __getattr__(name: str) -> object:
    return getattr(pkgdata, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
