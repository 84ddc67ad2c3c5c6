"""Keys under which a continuous integration service keeps the cache from run to run.

The key changes when the registry's names or digests do, or the format of our cache; not when the
package's version, the order of the registry, or the places of the files change.
"""

from __future__ import annotations

import hashlib

from ..cache.objects import OBJECTS
from ..core.declaration import find_package


def ci_key(*packages: str) -> str:
    """Return the key of a cache that holds the files of some packages.

    Parameters
    ----------
    *packages : str
        Names or folders, as for `pkgdata fetch`; their order does not matter.

    Returns
    -------
    str
        ``pkgdata-objects-v1-NAMES-DIGEST``: all before the digest may serve as the prefix by which
        the service finds an older cache to start from.

    Raises
    ------
    ConfigError
        There is no such package.

    Examples
    --------
    >>> ci_key("mypkg")                                                      # doctest: +SKIP
    'pkgdata-objects-v1-mypkg-0f343b0931126a20f133d67c2b018a3b'
    """
    found = {data.name: str(data.registry.digest()) for data in map(find_package, packages)}
    names = sorted(found)
    lines = "".join(f"{found[name]}  {name}\n" for name in names)
    return "-".join(["pkgdata", OBJECTS, *names, hashlib.sha256(lines.encode()).hexdigest()[:32]])
