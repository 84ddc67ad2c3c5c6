"""For authors who test their own code: a server that goes wrong on request, and keys for CI caches.

Names are loaded when they are first used: every pytest run imports the plugin in this package.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from . import faults
    from .server import Fault, FaultServer, Reply, Request, ServedFolder

__all__ = ["Fault", "FaultServer", "Reply", "Request", "ServedFolder", "ci_key", "faults"]


def __getattr__(name: str) -> object:
    import importlib

    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "faults":
        return importlib.import_module(f"{__name__}.faults")
    return getattr(importlib.import_module(f"{__name__}.server"), name)


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
    # every pytest run imports this module, and few ask for a key
    import hashlib

    from ..cache.stamps import OBJECTS
    from ..core.declaration import find_package

    found = {data.name: str(data.registry.digest()) for data in map(find_package, packages)}
    names = sorted(found)
    lines = "".join(f"{found[name]}  {name}\n" for name in names)
    return "-".join(["pkgdata", OBJECTS, *names, hashlib.sha256(lines.encode()).hexdigest()[:32]])
