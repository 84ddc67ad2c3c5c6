"""Where things lie on this machine: the user cache and the configuration files.

The places are platformdirs'. Nothing is created here.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Values of the environment by name. ``os.environ`` decodes at each look-up; comparing the raw
#: values instead lets a hit notice a changed variable for the price of a dictionary look-up.
_raw = getattr(os.environ, "_data", None)


def environment_reader(names: list[str]) -> Callable[[], list[object]]:
    """Return a fast function that lists the present values of some variables.

    Parameters
    ----------
    names : list of str

    Returns
    -------
    callable
        Its results compare equal as long as none of the variables changes.
    """
    if isinstance(_raw, dict):
        encode = getattr(os.environ, "encodekey", None)
        if encode is not None:
            keys = [encode(name) for name in names]
            get = _raw.get
            return lambda: list(map(get, keys))
    return lambda: [os.environ.get(name) for name in names]


def expand_path(path: str) -> str:
    """Expand ``~`` and ``$VARIABLES`` and drop a closing slash.

    Parameters
    ----------
    path : str

    Returns
    -------
    str
    """
    expanded = os.path.expanduser(os.path.expandvars(path))
    return (expanded.rstrip("/") or "/") if os.name != "nt" else expanded


def _ask(question: Callable[[], str]) -> str:
    """Return a folder from platformdirs; ``""`` if it needs a home directory and there is none."""
    try:
        return question()
    except RuntimeError:  # of newer releases; older ones leave the "~" as it stands
        return ""


def user_cache() -> str:
    """Return the folder where this user's programs keep caches, such as ``~/.cache``.

    Returns
    -------
    str

    Raises
    ------
    CacheError
        This user has no home directory.
    """
    import platformdirs

    path = _ask(platformdirs.user_cache_dir)
    if not os.path.isabs(path):
        from .errors import CacheError

        raise CacheError(
            "this user has no home directory to keep a cache in",
            hint="set PKGDATA_CACHE_DIR to a folder that can be written",
        )
    return path


def config_files() -> list[tuple[str, str]]:
    """Return the configuration files, strongest first.

    Returns
    -------
    list of (str, str)
        Kind (``"user"`` or ``"site"``) and path. ``PKGDATA_CONFIG`` replaces the user's file.
    """
    import platformdirs

    user = os.environ.get("PKGDATA_CONFIG")
    if user:
        user = os.path.abspath(user)
    else:
        folder = _ask(lambda: platformdirs.user_config_dir("pkgdata", appauthor=False))
        user = os.path.join(folder, "config.toml")
    sites = platformdirs.site_config_dir("pkgdata", appauthor=False, multipath=True)
    paths = [("site", os.path.join(site, "config.toml")) for site in sites.split(os.pathsep)]
    # without a home directory, or with an empty part in XDG_CONFIG_DIRS, a path is relative and
    # would be looked for in the working directory, which must not be able to redirect downloads
    return [pair for pair in [("user", user), *paths] if os.path.isabs(pair[1])]
