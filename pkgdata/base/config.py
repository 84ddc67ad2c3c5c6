"""Settings, where each one comes from, and `conf`.

Precedence: argument > ``pkgdata.conf`` > environment (``PKGDATA_*``) > user file > site file >
default. Files are TOML in the platformdirs places; none is read from the working directory, so that
no folder can redirect downloads. Lists of folders add up, strongest first; all else is replaced.
"""

from __future__ import annotations

import os
import sys

from ..errors import CacheError, ConfigError, required
from .report import InNotebook, read_toml

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextvars import ContextVar
    from typing import Any


# -- places: those of platformdirs, worked out here on Linux; nothing is created --------------

#: Values of the environment by name. ``os.environ`` decodes at each look-up; comparing the raw
#: values instead lets a hit notice a changed variable for the price of a dictionary look-up.
_raw = getattr(os.environ, "_data", None)


def environment_reader(names: list[str]) -> Callable[[], list[object]]:
    """Return a fast function whose results are equal while none of some variables changes."""
    encode = getattr(os.environ, "encodekey", None)
    if isinstance(_raw, dict) and encode is not None:
        keys, get = [encode(name) for name in names], _raw.get
        return lambda: list(map(get, keys))
    return lambda: [os.environ.get(name) for name in names]


def expand_path(path: str, source: str | None = None) -> str:
    """Expand ``~`` and ``$VARIABLES``; with a source, one that is not set is a `ConfigError`."""
    # a package may list folders of several sites, whose variables are set at one of them
    if source is not None and "$" in path:
        import re

        for name in re.findall(r"\$(\w+|\{[^}]*\})", path):
            if name.strip("{}") not in os.environ:
                text = f"expected ${name} to be set in the environment"
                raise ConfigError(f"{source} = {shown(path)!r}: {text}" if source else text)
    expanded = os.path.expanduser(os.path.expandvars(path))
    return (expanded.rstrip("/") or "/") if os.name != "nt" else expanded


def expand_place(text: str, source: str) -> str:
    """Expand what is a path, see `expand_path`; a URL stays as it is."""
    return text if "://" in text else expand_path(text, source)


_FOLDERS = "finding the folders of a user"


def _xdg_alone() -> bool:
    """Return True if the XDG Base Directory Specification 0.8 is all there is to the places."""
    # its rule is four lines; importing platformdirs for it would take three quarters of the time of
    # a whole process that finds a file in its cache; a test compares the two
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
        path = _ask(required("platformdirs", _FOLDERS).user_cache_dir)
    if not os.path.isabs(path):
        raise CacheError(
            "this user has no home directory to keep a cache in",
            hint="set PKGDATA_CACHE_DIR to a folder that can be written",
            unwritable=True,
        )
    return path


def config_files() -> list[tuple[str, str]]:
    """Return kind ("user" or "site") and path of the configuration files, strongest first."""
    own, sites = _config_folders()
    chosen = os.environ.get("PKGDATA_CONFIG")
    named = map(os.path.abspath, _right(expand_path, chosen, "PKGDATA_CONFIG") if chosen else ())
    paths = [("user", path) for path in (named if chosen else [os.path.join(own, "config.toml")])]
    paths += [("site", os.path.join(site, "config.toml")) for site in sites]
    # without a home directory, or with an empty part in XDG_CONFIG_DIRS, a path is relative and
    # would be looked for in the working directory, which must not be able to redirect downloads
    return [pair for pair in paths if os.path.isabs(pair[1])]


def _config_folders() -> tuple[str, list[str]]:
    """Return the user's folder and the site's folders for our configuration."""
    if _xdg_alone():
        listed = os.environ.get("XDG_CONFIG_DIRS", "").split(os.pathsep)
        sites = [site for site in listed if os.path.isabs(site)] or ["/etc/xdg"]
        user = _xdg("XDG_CONFIG_HOME", "~/.config")
        return os.path.join(user, "pkgdata"), [os.path.join(site, "pkgdata") for site in sites]
    platformdirs = required("platformdirs", _FOLDERS)
    user = _ask(lambda: platformdirs.user_config_dir("pkgdata", appauthor=False))
    site = platformdirs.site_config_dir("pkgdata", appauthor=False, multipath=True)
    return user, site.split(os.pathsep)


# -- settings -----------------------------------------------------------------------------------


class Field:
    """One setting: its kind, see `as_kind`, its default and its meaning."""

    __slots__ = ("default", "kind", "meaning")

    def __init__(self, kind: str, default: Any, meaning: str) -> None:
        self.kind, self.default, self.meaning = kind, default, meaning


#: Every setting. The variable is ``PKGDATA_`` and the name in capitals.
FIELDS: dict[str, Field] = {
    "cache_dir": Field("path", None, "folder of the user cache"),
    "catalog_dir": Field("path", None, "folder of the catalog's prepared datasets"),
    "node_cache": Field("none|roots", (), "cache of each node: the first that can be written to"),
    "site_caches": Field("paths", (), "read-only caches that are looked into before the user's"),
    "folders": Field("paths", (), "local folders; a file is FOLDER/PACKAGE/NAME"),
    "offline": Field("bool", False, "never use the network"),
    "verify": Field("once|always|size|never|owner", "once", "when a local file is checked"),
    "rewrite": Field("map", {}, "URL prefixes and what replaces them"),
    "remote_timeout": Field("seconds", 10.0, "longest wait to connect or for the next bytes"),
    "stall_bytes": Field("bytes", 1024, "fewer bytes than this in stall_seconds cut a transfer"),
    "stall_seconds": Field("seconds", 30.0, "window over which stall_bytes counts"),
    "retries": Field("int", 4, "further rounds over the mirrors after transient failures"),
    "lock_timeout": Field("seconds", 60.0, "longest wait for a lock whose holder shows no work"),
    "connections": Field("int", 16, "connections to one server at once"),
    "durability": Field("batch|each|none", "batch", "when fetched files are synced to disk"),
    "progress": Field("auto|bool", "auto", "progress bars: auto draws on terminals and notebooks"),
    "extract_limit": Field("int", 200, "an archive may grow to this many times its size, or 1 GB"),
    "extract_members": Field("int", 1_000_000, "an archive may hold this many files and folders"),
    "dataurl": Field("str", "http://www.astropy.org/astropy-data/", "for undeclared packages"),
    "dataurl_mirror": Field("str", "http://data.astropy.org/", "tried after dataurl"),
    "allow_internet": Field("bool", True, "astropy's name for the opposite of offline"),
    "default_http_user_agent": Field("header", "pkgdata", "first word of the User-Agent"),
    "user_agent": Field("header", None, "all of the User-Agent"),
    "headers": Field("headers", {}, "URL prefixes, and the headers that are sent there alone"),
    "download_block_size": Field("bytes", 1 << 20, "bytes per read of a transfer"),
    "compute_hash_block_size": Field("bytes", 1 << 20, "bytes per read of compute_hash"),
    "delete_temporary_downloads_at_exit": Field("bool", True, "remove what could not be cached"),
}

_WORDS = dict.fromkeys(("1", "true", "yes", "on"), True)
_WORDS |= dict.fromkeys(("0", "false", "no", "off", ""), False)


def _bool(text: Any) -> bool:
    found = _WORDS.get(str(text).lower())
    if found is None:
        raise ValueError("expected true or false")
    return found


def _number(value: Any, cast: type, least: float) -> Any:
    try:
        number = cast(value)
    except (TypeError, ValueError):
        number = None
    if number is None or isinstance(value, bool) or (cast is int and isinstance(value, float)):
        raise ValueError(f"expected {'a whole number' if cast is int else 'a number'}")
    if not number >= least:
        raise ValueError(f"expected at least {least:g}")
    return number


def _paths(value: Any, path: Callable[[Any], str] | None = None) -> tuple[str, ...]:
    one = isinstance(value, os.PathLike)
    parts = value.split(os.pathsep) if isinstance(value, str) else [value] if one else list(value)
    if not all(isinstance(part, (str, os.PathLike)) for part in parts):
        raise ValueError("expected a list of folders")
    return tuple((path or _path)(part) for part in parts if os.fspath(part))


def _root(value: Any) -> str:
    """Return a path as it is: each node expands it, and skips it if a variable is not set there."""
    path = os.fspath(value)
    if path.count("${") > path.count("}") or not path.strip("/"):
        raise ValueError("expected a folder of its own, such as /tmp/pkgdata-$USER or ${TMPDIR}/x")
    return path if path[0] in "$~" or os.path.isabs(path) else _path(path)


def _path(value: Any) -> str:
    path = expand_path(os.fspath(value), "")
    if not os.path.isabs(path):
        raise ValueError(f"expected an absolute path, found {shown(path)!r}")
    return path


def _map(value: Any) -> dict[str, str]:
    if isinstance(value, str):
        if not all("=" in pair for pair in value.split()):
            raise ValueError("expected PREFIX=REPLACEMENT, more of them after blanks")
        value = dict(pair.split("=", 1) for pair in value.split())
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in value.items()):
        raise ValueError("expected a table of texts")
    return dict(value)


def _headers(value: Any) -> Any:
    from . import urls  # few have any

    return urls.checked_headers(value)


def _only(kind: type, what: str, fits: Callable[[Any], bool] = lambda _: True) -> Any:
    """Return a check that leaves a value unchanged."""

    def checked(value: Any) -> Any:
        if not isinstance(value, kind) or not fits(value):
            raise ValueError(f"expected {what}")
        return value

    return checked


#: What brings a value to its kind. ``flag`` and ``table`` are as TOML has them, unchanged.
_CONVERT: dict[str, Callable[[Any], Any]] = {
    "str": _only(str, "a text"),
    "texts": _only(list, "a list of texts", lambda x: all(isinstance(one, str) for one in x)),
    "path": _path,
    "paths": _paths,
    "roots": lambda value: _paths(value, _root),
    "bool": _bool,
    "flag": _only(bool, "true or false"),
    "int": lambda value: _number(value, int, 0),
    "bytes": lambda value: _number(value, int, 1),
    "seconds": lambda value: _number(value, float, 0),
    "map": _map,
    "header": _only(str, "a text in ASCII, in one line", lambda x: x.isascii() and x.isprintable()),
    "headers": _headers,
    "table": _only(dict, "a table"),
}

#: What is expected where a value is of another form altogether.
_FORMS = {
    "path": "a path",
    "map": "a table of texts",
    "headers": 'URLs and their headers, such as {"https://HOST/": {"Accept": "text/csv"}}',
}

#: Keys with these words may hold a secret, which no message shows.
_SECRETS = ("secret", "token", "password", "headers")


def shown(value: Any) -> Any:
    """Return a value without secrets, see `pkgdata.base.urls.harmless`."""
    from . import urls  # few are shown

    return urls.harmless(value)


def as_kind(kind: str, value: Any) -> Any:
    """Bring a value to a kind such as ``str|texts`` or ``auto|bool``, or raise ValueError."""
    words = kind.split("|")
    kinds = [word for word in words if word in _CONVERT]
    if isinstance(value, str) and value in words and value not in kinds:
        return value
    problems = [] if kinds else [f"expected one of {', '.join(words)}"]
    for one in kinds:
        try:
            return _CONVERT[one](value)
        except ValueError as error:
            problems.append(str(error))
        except (TypeError, AttributeError):
            problems.append(f"expected {_FORMS.get(one, 'a list of folders')}")
    raise ValueError(" or ".join(problems).replace(" or expected ", " or "))


def check(values: Mapping[str, Any], kinds: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Check a table by the kinds of its keys, of which some may be tables; else `ConfigError`."""
    found = {}
    for key, value in values.items():
        kind = kinds.get(key)
        if kind is None:
            raise unknown_key(key, kinds, source)
        try:
            if isinstance(kind, str):
                found[key] = as_kind(kind, value)
                continue
            inside = as_kind("table", value)
        except ValueError as error:
            told = "" if any(word in key for word in _SECRETS) else f" = {shown(value)!r}"
            raise ConfigError(f"{source}: {key}{told}: {shown(str(error))}") from None
        found[key] = check(inside, kind, f"{source}, [{key}]")
    return found


def read(path: str, kinds: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Read a TOML file and `check` it, if it is ours; `ConfigError` too if it cannot be read."""
    found = read_toml(path)
    return found if kinds is None else check(found, kinds, path)


def convert(name: str, value: Any, source: str) -> Any:
    """Bring a setting's value, which came from `source`, to its type; see `check`."""
    field = FIELDS.get(name)
    return check({name: value}, {name: field.kind} if field else FIELDS, source)[name]


#: What is wrong, for who looks at all of it; None raises the first such error.
wrong: list[ConfigError] | None = None


def _right(action: Callable[..., Any], *arguments: Any) -> list[Any]:
    """Return a list of what an action returns, empty if that is `wrong`."""
    try:
        return [action(*arguments)]
    except ConfigError as error:
        if wrong is None:
            raise
        wrong.append(error)
        return []


def unknown_key(name: str, known: Mapping[str, object], source: str) -> ConfigError:
    """Return the error for a key that does not exist, with close matches."""
    import difflib

    close = difflib.get_close_matches(name, list(known), 3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"known: {', '.join(known)}"
    return ConfigError(f"{source}: unknown key {name!r}", hint=hint)


_overrides: ContextVar[dict[str, Any]] | None = None
_process: dict[str, Any] = {}


def _temporary() -> dict[str, Any]:
    return {} if _overrides is None else _overrides.get({})


class _Temporary:
    """What `Conf.set_temp` returns."""

    def __init__(self, name: str, value: Any) -> None:
        self._change = {name: convert(name, value, "set_temp")}

    def __enter__(self) -> None:
        global _overrides
        if _overrides is None:
            from contextvars import ContextVar

            _overrides = ContextVar("pkgdata_conf")
        self._context = _overrides
        self._token = _overrides.set({**_temporary(), **self._change})

    def __exit__(self, *_: object) -> None:
        self._context.reset(self._token)


class Conf(InNotebook):
    """Settings as attributes: reading resolves, assigning holds for the process.

    Astropy's names are among them (``dataurl``, ``remote_timeout``, ``allow_internet``).
    """

    def __getattr__(self, name: str) -> Any:
        if name not in FIELDS:
            raise AttributeError(f"pkgdata.conf has no setting {name!r}")
        return resolve(name)[0]

    def __setattr__(self, name: str, value: Any) -> None:
        global _process
        _process = {**_process, name: convert(name, value, "pkgdata.conf")}

    def __delattr__(self, name: str) -> None:
        global _process
        _process = {key: value for key, value in _process.items() if key != name}

    def __dir__(self) -> list[str]:
        return [*FIELDS, "reload", "reset", "set_temp"]

    def set_temp(self, name: str, value: Any) -> _Temporary:
        """Change a setting inside a ``with`` block, in this thread or task alone.

        Parameters
        ----------
        name : str
        value : object

        Returns
        -------
        context manager

        Raises
        ------
        ConfigError
            Unknown setting or wrong value.
        """
        return _Temporary(name, value)

    def reset(self, name: str | None = None) -> None:
        """Forget what was assigned. Files are read again whenever they change.

        Parameters
        ----------
        name : str, optional
            All settings, by default.
        """
        for one in list(_process) if name is None else [name]:
            self.__delattr__(one)

    reload = reset  #: astropy's other word

    def _rows(self) -> list[tuple[str, Any, str]]:
        return [(name, shown(value), at) for name in FIELDS for value, at in [resolve(name)]]


conf = Conf()


def state() -> tuple[object, object]:
    """Return a value that changes identity whenever `conf` is changed, for remembered answers."""
    return _process, None if _overrides is None else _overrides.get(None)


_files: dict[str, tuple[tuple[int, int, bool], dict[str, Any]]] = {}


def _file_settings(kind: str, path: str) -> dict[str, Any]:
    """Return a configuration file's settings, checked; an absent file has none."""
    try:
        found = os.stat(path)
    except OSError:
        if kind == "user" and (chosen := os.environ.get("PKGDATA_CONFIG")):
            raise ConfigError(f"PKGDATA_CONFIG = {chosen!r}: there is no such file") from None
        return {}
    mark = (found.st_mtime_ns, found.st_size, wrong is None)
    if path not in _files or _files[path][0] != mark:
        given = {key: value for table in _right(read, path) for key, value in table.items()}
        good = {key: one for key in given for one in _right(convert, key, given[key], path)}
        _files[path] = mark, good
    return _files[path][1]


def sources(name: str) -> Iterator[tuple[Any, str]]:
    """Yield (value, where it is set) from the strongest place to the default."""
    for settings, where in (_temporary(), "pkgdata.conf.set_temp"), (_process, "pkgdata.conf"):
        if name in settings:
            yield settings[name], where
    variable = f"PKGDATA_{name.upper()}"
    if text := os.environ.get(variable):
        for value in _right(convert, name, text, variable):
            yield value, variable
    for kind, path in config_files():
        for settings in _right(_file_settings, kind, path):
            if name in settings:
                yield settings[name], f"{kind} file {path}"
    yield FIELDS[name].default, "default"


def resolve(name: str) -> tuple[Any, str]:
    """Return a setting's value and where it came from; `ConfigError` if the value is wrong."""
    found = sources(name)
    if FIELDS[name].kind not in ("paths", "map", "headers"):
        return next(found)
    values, places = [], []
    for value, place in found:
        if value:
            values.append(value)
            places.append(place)
        if place.startswith("pkgdata.conf"):
            break  # set in code: exactly this
    where = ", ".join(places) or "default"
    if FIELDS[name].kind != "paths":
        return {key: new for value in reversed(values) for key, new in value.items()}, where
    return tuple(dict.fromkeys(path for value in values for path in value)), where


def cache_dir() -> tuple[str, str]:
    """Return the folder of the user cache and where it is set; `CacheError` without a home."""
    path, where = resolve("cache_dir")
    return path or os.path.join(user_cache(), "pkgdata"), where


def is_offline() -> bool:
    """Return True if the network may not be used."""
    return bool(conf.offline or not conf.allow_internet)
