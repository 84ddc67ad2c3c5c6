"""Where things lie on this machine: the user cache and the configuration files.

The places are platformdirs', worked out here on Linux. Nothing is created.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: Values of the environment by name. ``os.environ`` decodes at each look-up; comparing the raw
#: values instead lets a hit notice a changed variable for the price of a dictionary look-up.
_raw = getattr(os.environ, "_data", None)


def environment_reader(names: list[str]) -> Callable[[], list[object]]:
    """Return a fast function that lists the present values of some variables.

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
    """Expand ``~`` and ``$VARIABLES`` and drop a closing slash."""
    expanded = os.path.expanduser(os.path.expandvars(path))
    return (expanded.rstrip("/") or "/") if os.name != "nt" else expanded


def _xdg_alone() -> bool:
    """Say whether the XDG Base Directory Specification 0.8 is all there is to the places.

    On Linux it is, and its rule is four lines; importing platformdirs for it would take three
    quarters of the time of a whole process that finds a file in its cache. A test compares the two.
    """
    return sys.platform == "linux" and "ANDROID_DATA" not in os.environ


def _xdg(variable: str, default: str) -> str:
    """Return a user's folder; a relative one in the variable is ignored, as the rule says."""
    path = os.environ.get(variable, "").strip()
    return path if os.path.isabs(path) else os.path.expanduser(default)


def _ask(question: Callable[[], str]) -> str:
    """Return a folder from platformdirs; ``""`` if it needs a home directory and there is none."""
    try:
        return question()
    except RuntimeError:  # of newer releases; older ones leave the "~" as it stands
        return ""


def user_cache() -> str:
    """Return the folder where this user's programs keep caches, such as ``~/.cache``."""
    if _xdg_alone():
        path = _xdg("XDG_CACHE_HOME", "~/.cache")
    else:
        import platformdirs

        path = _ask(platformdirs.user_cache_dir)
    if not os.path.isabs(path):
        from ..errors import CacheError

        raise CacheError(
            "this user has no home directory to keep a cache in",
            hint="set PKGDATA_CACHE_DIR to a folder that can be written",
        )
    return path


def config_files() -> list[tuple[str, str]]:
    """Return kind ("user" or "site") and path of the configuration files, strongest first."""
    own, sites = _config_folders()
    chosen = os.environ.get("PKGDATA_CONFIG")
    user = os.path.abspath(chosen) if chosen else os.path.join(own, "config.toml")
    paths = [("site", os.path.join(site, "config.toml")) for site in sites]
    # without a home directory, or with an empty part in XDG_CONFIG_DIRS, a path is relative and
    # would be looked for in the working directory, which must not be able to redirect downloads
    return [pair for pair in [("user", user), *paths] if os.path.isabs(pair[1])]


def _config_folders() -> tuple[str, list[str]]:
    """Return the user's folder and the site's folders for our configuration."""
    if _xdg_alone():
        listed = os.environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep)
        sites = [site for site in listed if os.path.isabs(site)] or ["/etc/xdg"]
        user = _xdg("XDG_CONFIG_HOME", "~/.config")
        return os.path.join(user, "pkgdata"), [os.path.join(site, "pkgdata") for site in sites]
    import platformdirs

    user = _ask(lambda: platformdirs.user_config_dir("pkgdata", appauthor=False))
    site = platformdirs.site_config_dir("pkgdata", appauthor=False, multipath=True)
    return user, site.split(os.pathsep)
